"""`wait`: wait until Redis is ready, then become a command."""
