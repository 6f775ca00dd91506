"""What becomes of a command's end, and of its errors: one line on standard error, and a status."""

from collections.abc import Callable

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import FAILED
from orchestrator.cli._shell.output import ReaderGone, finished, is_of_a_stream, lost, note


def status_of(command: Callable[[], int]) -> int:
    """Run a command; return its exit status."""
    try:
        return finished(command())
    except ReaderGone as gone:
        return gone.status
    except BrokenPipeError:
        return ReaderGone().status
    except UserError as error:
        return _complain(str(error), error.status)
    except OSError as error:
        # What a device has no place for is what we print; the rest is said as the system says it.
        message = lost(error) if is_of_a_stream(error) else f"the system refused something: {error}"
        return _complain(str(message), FAILED)
    except SystemExit as leaving:
        if leaving.code != 1:  # such as that of shell completion
            raise
        return ReaderGone().status  # rich and Typer leave like this when the reader is gone


def _complain(text: str, status: int) -> int:
    note(" ".join(text.split()))
    return status
