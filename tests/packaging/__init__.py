"""What is built and installed: the distributions, their extras, and the oldest versions."""
