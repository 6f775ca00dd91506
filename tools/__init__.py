"""What the Makefile and CI run, beside the tests. Needs nothing but Python's standard library."""
