"""The command line: `startup-orchestrator`, and `python -m orchestrator` the same."""

import gc
import os
import sys

TYPE_CHECKING = False  # as type checkers know it: nothing is loaded before Ctrl-C is seen to
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run the command line; return its exit status.

    Args:
        arguments: What follows the program's name; that of this process if not given.
    """
    if arguments is not None:
        try:
            return _load(arguments)(arguments)
        except KeyboardInterrupt:
            return 130  # as shells count what Ctrl-C ends
    # The process is this command's alone: its streams and signals are, too.
    _end_by_ctrl_c()
    gc.disable()  # what is loaded now stays: to look through it again and again finds nothing
    from orchestrator.cli._shell import ending

    ending.end_at_once()
    from orchestrator.cli._shell.output import flush, open_missing_streams

    open_missing_streams()
    run = _load(sys.argv[1:])
    came: list[int] = []
    try:
        ending.raise_ended(came)
        gc.freeze()
        gc.enable()
        status = run(sys.argv[1:])
        ending.end_at_once()
    except KeyboardInterrupt:
        status = 130
    if came:  # whatever became of the exception
        return ending.end_by_signal(came[0])
    flush()
    # The process ends now: looking once more for unreachable objects among all those modules would
    # take a quarter of the time of a short command.
    gc.freeze()
    gc.disable()
    return status


_COMPLETION = "_STARTUP_ORCHESTRATOR_COMPLETE"
"""Set where a shell asks for completions."""


def _end_by_ctrl_c() -> None:
    """The first of `ending.end_at_once`, without the milliseconds that it takes to load."""
    import _signal  # type: ignore[import-not-found]  # what `signal` itself is made of

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # else it is ignored
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _load(arguments: "Sequence[str]") -> "Callable[[Sequence[str]], int]":
    """The command, or all of them; where their packages are missing, one that says so."""
    if arguments[:1] == ["wait"] and _COMPLETION not in os.environ:
        from orchestrator.cli.wait.plain_arguments import plain_arguments

        given = plain_arguments(arguments[1:])
        if given is not None:
            from functools import partial

            from orchestrator.cli._shell.outcome import status_of
            from orchestrator.cli.wait.wait_as_asked import wait_as_asked

            return lambda _: status_of(partial(wait_as_asked, **given))
    try:
        from orchestrator.cli._app import run  # typer is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"orchestrator", "states"}:
            raise
        missing = error.name

        def complain(_: object) -> int:
            from orchestrator.cli._shell.output import note

            note(f"{missing} is missing: install startup-orchestrator[cli]")
            return 2

        return complain
    return run
