"""Fuzzing of every input: a little with the other tests, as long as wanted with `make fuzz`."""
