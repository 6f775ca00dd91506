"""What the user can fix, as one line and an exit status."""

from orchestrator.cli._shell.exit_codes import UNREACHABLE, USAGE


class UserError(Exception):
    """Something that the user can fix. The text is one line.

    Args:
        text: What is wrong.
        status: The exit status.
    """

    def __init__(self, text: str, status: int = USAGE) -> None:
        super().__init__(text)
        self.status = status


class Unreachable(UserError):  # named after the state
    """Nothing answers there, or nothing that could be understood."""

    def __init__(self, text: str) -> None:
        super().__init__(text, UNREACHABLE)
