"""The start-up itself: one driver feeds the machine and informs everyone else."""
