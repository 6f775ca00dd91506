"""Asking anything, with a deadline."""
