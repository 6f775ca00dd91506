"""Asks anything whether it answers, within a deadline."""
