"""Tests of what the status page shows."""
