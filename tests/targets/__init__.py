"""The types of targets: what they share, and each service's own rules."""
