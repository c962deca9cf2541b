"""Benchmarks: ``python -m tests.bench NAME``. Each measures something beside what it can be compared with.

Machines differ and drift, so a bench takes its yardstick in the same run, a round of each in turn, and says
medians and ratios. The last line that it prints is JSON.
"""
