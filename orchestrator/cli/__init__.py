"""The command line: `startup-orchestrator`, and `python -m orchestrator` the same."""

import gc
import os
import signal
import sys
from collections.abc import Sequence

PROGRAM = "startup-orchestrator"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        arguments: What follows the program's name; that of this process if not given.
    """
    if arguments is None and os.getpid() == 1:
        # The kernel keeps process 1 from the default of SIGTERM: without this, a container that is
        # stopped while it loads its modules would be killed the hard way.
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    try:
        from orchestrator.cli._app import run  # noqa: PLC0415  typer is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"orchestrator", "states"}:
            raise
        print(  # noqa: T201  this is a command line
            f"{PROGRAM}: {error.name} is missing: install startup-orchestrator[cli]",
            file=sys.stderr,
        )
        return 2
    if arguments is not None:
        return run(arguments)
    status = run(sys.argv[1:])
    # The process ends now: looking once more for unreachable objects among all those modules would
    # take a quarter of the time of a short command.
    gc.freeze()
    gc.disable()
    return status
