"""`run`: its options, and what becomes of them."""

from typing import Annotated

import typer

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.options import (
    Checks,
    Command,
    OptionalChecks,
    RedisUrl,
    Timeout,
    WithAccount,
)
from orchestrator.cli._shell.process import named

_EndpointPort = Annotated[int, typer.Option(help="The port of the health endpoints.")]
_EndpointHost = Annotated[
    str, typer.Option(help="Their address; all of the machine's if not given.")
]
_StartWhen = Annotated[
    str,
    typer.Option(
        metavar="WHEN",
        help="Start CMD when-ready or at-once.",
        autocompletion=lambda: ["when-ready", "at-once"],
    ),
]
_EndsWhenDegraded = Annotated[
    bool,
    typer.Option(
        "--exit-when-degraded",
        help="End with 124 or 78, as wait does, when the start-up fails before CMD is started.",
    ),
]
_FailsWhenDegraded = Annotated[
    bool,
    typer.Option("--drain-when-degraded", help="Fail /readyz in outages after the start-up."),
]
_ShowDetails = Annotated[
    bool,
    typer.Option(
        "--details",
        help="Show everyone on the endpoints what is waited for, and serve the status page.",
    ),
]
_DetailsHosts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST",
        help="Show details only to requests for this host, such as localhost:*; may be repeated.",
    ),
]
_InheritsOrphans = Annotated[
    bool,
    typer.Option("--subreaper", help="Inherit orphans below, as process 1 does (Linux)."),
]
_ChildReadyWhen = Annotated[
    str,
    typer.Option(
        metavar="WHEN",
        help="When a CMD that reports nothing is ready: once it is started, only once it has"
        " reported, or after so many seconds without a word.",
        autocompletion=lambda: ["started", "reported", "5"],
    ),
]
_WarningsOnly = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.")]
_LogsJson = Annotated[bool, typer.Option("--json", help="Log JSON, one object a line.")]


def run(  # noqa: PLR0913  each is an option of the command line
    *,
    redis: RedisUrl = None,
    check: Checks = None,
    optional: OptionalChecks = None,
    timeout: Timeout = None,
    port: _EndpointPort = 8081,
    host: _EndpointHost = "",
    start: _StartWhen = "when-ready",
    exit_when_degraded: _EndsWhenDegraded = False,
    drain_when_degraded: _FailsWhenDegraded = False,
    details: _ShowDetails = False,
    allowed_host: _DetailsHosts = None,
    subreaper: _InheritsOrphans = False,
    account: WithAccount = False,
    child_ready: _ChildReadyWhen = "5",
    quiet: _WarningsOnly = False,
    json: _LogsJson = False,
    command: Command = None,
) -> int:
    """Run CMD once Redis, and whatever else is named, is ready; stay beside it as its parent.

    It serves /livez, /readyz and /startupz, with --details /startup, too, for explain and watch;
    tells systemd (NOTIFY_SOCKET), passes signals on, and waits for orphans where it is process 1.
    CMD is ready when it says so, in the same way, or as an orchestrator in it does by itself.
    The exit status is that of CMD.
    """
    from orchestrator.cli._shell.asked import asked_for
    from orchestrator.cli.run import child_log, run, run_options

    if not command:
        raise UserError("run needs a command: run -- CMD [ARGS]...")
    named(command)
    if not 0 <= port <= 65_535:  # noqa: PLR2004  the ports that there are
        raise UserError(f"--port is {port}; it must be from 0 to 65535")
    if start not in list(run_options.Start):
        raise UserError(f"--start is {start}; it must be {' or '.join(run_options.Start)}")
    silent_seconds = run_options.silence_of(child_ready)
    child_log.log_to_stderr(quiet=quiet, as_json=json)
    options = run_options.RunOptions(
        command=command,
        host=host,
        port=port,
        start=run_options.Start(start),
        exit_when_degraded=exit_when_degraded,
        drain_when_degraded=drain_when_degraded,
        details=details,
        allowed_hosts=allowed_host,
        subreaper=subreaper,
        account=account,
        child_silent_seconds=silent_seconds,
    )
    return run.run(asked_for(redis, timeout, check, optional), options)
