"""`drain`: its options, and what becomes of them."""

import time
from typing import Annotated

import typer

from orchestrator.cli._shell.exit_codes import BUDGET_SPENT, OK
from orchestrator.cli._shell.options import Json, require_positive
from orchestrator.cli._shell.output import note, print_json

_LOOK_SECONDS = 0.05


def drain(
    *,
    pid: Annotated[
        int,
        typer.Option(
            metavar="PID", min=1, help="The process, with all below it; 1 is that of a container."
        ),
    ] = 1,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it is over.")] = True,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait at most.")
    ] = 600.0,
    json: Json = False,
) -> int:
    """Drain a service on this machine before SIGTERM, as a pre-stop hook.

    Each of its processes that has an orchestrator drains as it would at SIGTERM, on the same clock,
    but the server gets no signal. A SIGTERM during the drain does not start another. The exit
    status is 0 when all have drained or ended, 1 when there is none to drain, and 124 when the
    time is up.
    Only root and the user that runs the service can do this. It needs Linux.
    """
    from orchestrator.cli.drain import drainable_processes

    require_positive("--timeout", timeout)
    began_at = time.monotonic()
    asked = drainable_processes.begin(pid)
    left = asked if wait else []
    while left and time.monotonic() - began_at < timeout:
        left = [one for one in left if drainable_processes.drains(one)]
        if left:
            time.sleep(_LOOK_SECONDS)
    seconds = round(time.monotonic() - began_at, 2)
    if json:
        print_json({"asked": asked, "waited": wait, "left": left, "seconds": seconds})
    else:
        done = f"drained after {seconds:g} s" if wait else "asked to drain"
        note(
            f"processes still draining: {len(left)}" if left else f"processes {done}: {len(asked)}"
        )
    return BUDGET_SPENT if left else OK
