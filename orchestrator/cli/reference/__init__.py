"""`diagram`, `settings` and `commands`: what the program knows of itself."""
