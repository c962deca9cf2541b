"""What the service manager makes of the files in ``systemd/``."""
