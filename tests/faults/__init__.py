"""Every way in which a Redis fails, for real: `python -m tests.faults` prints the table."""
