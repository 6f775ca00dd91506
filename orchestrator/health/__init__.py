"""Health for processes without a web server of their own: the same answers, by other ways."""
