"""Many instances that wait for one Redis: simulated, and real."""
