"""`check`, `explain` and `watch`: ask a running service."""
