"""The command line: `startup-orchestrator`, and `python -m orchestrator` the same."""

import sys
from collections.abc import Sequence

PROGRAM = "startup-orchestrator"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        arguments: What follows the program's name; that of this process if not given.
    """
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
    return run(sys.argv[1:] if arguments is None else arguments)
