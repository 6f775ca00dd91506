"""HTTP as far as all of our endpoints need it."""
