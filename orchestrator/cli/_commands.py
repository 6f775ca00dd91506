"""The commands for services and their surroundings: their names and options.

Each loads what it needs only when it runs: `wait` and `check` are started often and must be quick.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from orchestrator.cli._check_policy_command import check_policy
from orchestrator.cli._errors import Unreachable, UserError
from orchestrator.cli._exit_codes import OK
from orchestrator.cli._output import lost, note, print_json
from orchestrator.cli._process import become, end_by_signal, named

_REST_IS_CMD = {"allow_interspersed_args": False}
"""Options end with the first word of CMD: the rest is CMD's own."""

_TOO_LARGE = 1e9
"""Seconds, as in a policy: whatever is longer is a mistake, and too much for a clock."""

_RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis", metavar="URL", help="Where Redis is; else ORCHESTRATOR_REDIS_URL or REDIS_URL."
    ),
]
_Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="The budget; else that of the environment's policy: 30, on Google Cloud 60.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Command = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CMD", show_default=False, help="The program and its arguments, after --."
    ),
]
_Url = Annotated[
    str,
    typer.Argument(
        metavar="URL", show_default=False, help="Such as http://127.0.0.1:8080 or 127.0.0.1:8080."
    ),
]
_AnswerTimeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="How long the answer may take.")
]


def _stages() -> list[str]:
    """What a shell completes."""
    from states import Stage  # noqa: PLC0415  as said above

    return list(Stage)


def flowing(command: Callable[..., object]) -> str:
    """The text of a command with one line for each paragraph, which any terminal can wrap.

    Typer would keep the ends of the lines of the source, and break those too that are too long.
    """
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(context_settings=_REST_IS_CMD, help=flowing(wait))(wait)
    app.command(context_settings=_REST_IS_CMD, help=flowing(run))(run)
    app.command(help=flowing(check))(check)
    app.command(help=flowing(explain))(explain)
    app.command(help=flowing(watch))(watch)
    app.command("check-policy", help=flowing(check_policy))(check_policy)

    @app.command(hidden=True)
    def commands(
        markdown: Annotated[  # noqa: ARG001  there is no other form, as with its sisters there is
            bool, typer.Option("--markdown", help="Print the whole reference page.")
        ] = True,
    ) -> None:
        """Print the reference page of the commands."""
        from orchestrator.cli._commands_page import commands_page  # noqa: PLC0415  see above

        typer.echo(commands_page(app), nl=False)


def wait(
    redis: _RedisUrl = None,
    timeout: _Timeout = None,  # the option's name says which
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    json: _Json = False,
    command: _Command = None,
) -> int:
    """Wait until Redis is ready, then become CMD.

    Without CMD the exit status says how it ended: 0 ready, 124 the budget is spent, 78 a failure
    that waiting does not mend, such as a wrong password.
    """
    from orchestrator.cli import _progress, _wait  # noqa: PLC0415  see above

    named(command or ())
    settings = _wait.settings_for(redis, timeout)
    waited = _wait.wait(settings, _progress.make_progress(quiet=quiet or json))
    if json:
        _tell_json(waited.as_json(), anyway=bool(command))
    else:
        _wait.tell(waited, quiet=quiet)
    if waited.signal_number:
        return end_by_signal(waited.signal_number)
    if waited.status == OK and command:
        become(command)
    return waited.status


def _tell_json(told: Mapping[str, object], *, anyway: bool) -> None:
    """Print JSON; go on where that is not possible, if there is something to go on with."""
    try:
        print_json(told)
    except OSError as error:
        if not anyway:
            raise
        note(str(lost(error)))


def run(  # noqa: PLR0913  each is an option of the command line
    *,
    redis: _RedisUrl = None,
    timeout: _Timeout = None,
    port: Annotated[int, typer.Option(help="The port of the health endpoints.")] = 8081,
    host: Annotated[
        str, typer.Option(help="Their address; all of the machine's if not given.")
    ] = "",
    start: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            help="Start CMD when-ready or at-once.",
            autocompletion=lambda: ["when-ready", "at-once"],
        ),
    ] = "when-ready",
    exit_when_degraded: Annotated[
        bool,
        typer.Option(
            "--exit-when-degraded",
            help="End with 124 or 78, as wait does, when the start-up fails before CMD is started.",
        ),
    ] = False,
    drain_when_degraded: Annotated[
        bool,
        typer.Option("--drain-when-degraded", help="Fail /readyz in outages after the start-up."),
    ] = False,
    details: Annotated[
        bool,
        typer.Option(
            "--details",
            help="Let the endpoints tell what is waited for, to everybody; with the status page.",
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Tell details only to requests for this host, such as localhost:*; repeat it.",
        ),
    ] = None,
    subreaper: Annotated[
        bool,
        typer.Option("--subreaper", help="Inherit orphans below, as process 1 does (Linux)."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Log JSON, one object a line.")] = False,
    command: _Command = None,
) -> int:
    """Run CMD once Redis is ready, and stay beside it as its parent.

    It serves /livez, /readyz and /startupz, with --details /startup, too, for explain and watch;
    tells systemd (NOTIFY_SOCKET), passes signals on, and waits for orphans where it is process 1.
    The exit status is that of CMD.
    """
    from orchestrator.cli import _run, _run_log, _wait  # noqa: PLC0415  see above

    if not command:
        raise UserError("run needs a command: run -- CMD [ARGS]...")
    named(command)
    if not 0 <= port <= 65_535:  # noqa: PLR2004  the ports that there are
        raise UserError(f"--port is {port}; it must be from 0 to 65535")
    if start not in list(_run.Start):
        raise UserError(f"--start is {start}; it must be {' or '.join(_run.Start)}")
    _run_log.log_to_stderr(quiet=quiet, as_json=json)
    options = _run.RunOptions(
        command=command,
        host=host,
        port=port,
        start=_run.Start(start),
        exit_when_degraded=exit_when_degraded,
        drain_when_degraded=drain_when_degraded,
        details=details,
        allowed_hosts=allowed_host,
        subreaper=subreaper,
    )
    return _run.run(_wait.settings_for(redis, timeout), options)


def check(
    url: _Url,
    timeout: _AnswerTimeout = 2.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    json: _Json = False,
) -> int:
    """Ask a health endpoint once, for health checks of containers.

    URL without a path means /readyz. The exit status is 0 when the service passes or warns, 1 when
    it fails, 2 when nobody answers.
    """
    from orchestrator.cli import _check  # noqa: PLC0415  see above

    _positive("--timeout", timeout)
    try:
        checked = _check.check(url, timeout)
    except Unreachable as error:
        return _nobody(error, quiet=quiet, json=json)
    if json:
        print_json(checked.as_json())
    elif not quiet:
        typer.echo(str(checked))
    return checked.exit_status


def _nobody(error: Unreachable, *, quiet: bool, json: bool) -> int:
    """Nobody answers: as it is wanted to be told, and with its exit status."""
    if json:
        print_json({"exit_status": error.status, "error": str(error)})
    elif not quiet:
        raise error
    return error.status


def explain(url: _Url, timeout: _AnswerTimeout = 8.0, json: _Json = False) -> int:
    """Say what a running service waits for, and why.

    URL is that of its status page; without a path, /startup. Of a service without a page, it says
    what its health endpoint tells. The exit status is 2 when nobody answers.
    """
    from orchestrator.cli import _explain, _waits  # noqa: PLC0415  see above

    _positive("--timeout", timeout)
    base = _explain.base_address(url)
    try:
        state = _explain.fetch_state(base, timeout)
    except Unreachable as error:
        no_page = isinstance(error, _explain.NoPage) and not json
        if no_page and (lines := _waits.from_health(base, timeout)):
            typer.echo("\n".join([*lines, f"no more is known: {error}"]))
            return OK
        return _nobody(error, quiet=False, json=json)
    if json:
        print_json(state)
    else:
        typer.echo("\n".join(_explain.lines(state)))
    return OK


def watch(
    url: _Url,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="End with 0 once this stage is reached.",
            autocompletion=_stages,
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End with 124 after this time.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> int:
    """Show the stages of a running service live, until interrupted.

    URL is that of its status page; without a path, /startup. A service that goes away is waited
    for; the exit status is 2 when there is one, but without a status page.
    """
    from orchestrator.cli import _explain, _watch, _watch_view  # noqa: PLC0415  see above
    from states import Stage  # noqa: PLC0415  the same

    if until is not None and until not in list(Stage):
        raise UserError(f"--until is {until}; it must be one of {', '.join(Stage)}")
    if timeout is not None:
        _positive("--timeout", timeout)
    base = _explain.base_address(url)
    view = _watch_view.make_view(as_json=json)
    return _watch.watch(base, view, until=until, timeout_seconds=timeout)


def _positive(option: str, value: float) -> None:
    if not 0 < value < _TOO_LARGE:
        bound = " and below 1e9" if value >= _TOO_LARGE else ""
        raise UserError(f"{option} is {value:g}; it must be a number above 0{bound}")
