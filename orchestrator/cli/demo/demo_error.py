"""What can end the demo early."""


class DemoError(Exception):
    """The demo cannot go on. The text is one line for a person."""
