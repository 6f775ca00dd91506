"""The command line: `startup-orchestrator`, and `python -m orchestrator` the same."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        arguments: What follows the program's name; that of this process if not given.
    """
    if arguments is not None:
        return _status_of(_load(), arguments)
    # The process is this command's alone: its streams and signals are, too.
    with _signals_end_it():
        from orchestrator.cli._shell.output import flush, open_missing_streams

        open_missing_streams()
        run = _load()
    status = _status_of(run, sys.argv[1:], by_signal=True)
    flush()
    # The process ends now: looking once more for unreachable objects among all those modules would
    # take a quarter of the time of a short command.
    gc.freeze()
    gc.disable()
    return status


_App = Callable[[Sequence[str]], int]


def _load() -> _App:
    """The commands; where their packages are missing, one that says so."""
    from orchestrator.cli._shell.output import note  # the last moment for signals

    try:
        from orchestrator.cli._app import run  # typer is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"orchestrator", "states"}:
            raise
        missing = error.name

        def complain(_: Sequence[str]) -> int:
            note(f"{missing} is missing: install startup-orchestrator[cli]")
            return 2

        return complain
    return run


def _status_of(run: _App, arguments: Sequence[str], *, by_signal: bool = False) -> int:
    from orchestrator.cli._shell.errors import Interrupted
    from orchestrator.cli._shell.process import end_by_signal

    try:
        return run(arguments)
    except (KeyboardInterrupt, Interrupted):
        # As any program ends by Ctrl-C, so that a shell's loop around it ends, too.
        return end_by_signal(signal.SIGINT) if by_signal else 128 + signal.SIGINT


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the process at once, and without a traceback.

    The kernel keeps process 1 from the default of both: without this, a container that is stopped
    while it loads its modules would be killed the hard way. For SIGTERM it stays so.
    """
    first = os.getpid() == 1
    if first:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    python_s = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if python_s:  # else it is ignored, and stays so
        ends = (lambda number, _: os._exit(128 + number)) if first else signal.SIG_DFL
        signal.signal(signal.SIGINT, ends)
    yield
    if python_s:
        signal.signal(signal.SIGINT, signal.default_int_handler)
