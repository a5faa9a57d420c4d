"""Real processes, real clients, real signals.

workload.py   producers with unique values, and the checker of what was read back
"""
