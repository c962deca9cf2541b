"""What Prometheus and Grafana make of the daemon: its metrics, the rules and the dashboard that ship."""
