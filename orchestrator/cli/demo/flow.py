"""`startup-orchestrator demo`: the runs, their summary, and the exit status."""

import asyncio
import resource
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from rich.console import Console

from orchestrator._runtime.event_loop import EventLoop
from orchestrator.cli._shell.ending import end_by_signal, obeyed
from orchestrator.cli._shell.output import print_error
from orchestrator.cli.demo.choices import DemoError, DemoOptions
from orchestrator.cli.demo.figures import FiguresFile, RunFigures, shortcomings
from orchestrator.cli.demo.full.falls import FullFigures, fall_shortcomings, print_falls
from orchestrator.cli.demo.full.full_run import FullRun
from orchestrator.cli.demo.live_view import make_console, make_view
from orchestrator.cli.demo.measure import TITLES, DemoRun
from orchestrator.cli.demo.reports import SERVICE_NAME, Protection, export_endpoint
from orchestrator.cli.demo.summary import print_summary, print_traces

_OTHER_FILES = 256
"""Open files besides the clients', generously."""

_TALL_LINES = 60
"""A terminal with so many lines shows verdict and traces at once."""


def run_demo(
    options: DemoOptions, gates: Sequence[Protection], binary: str, file: FiguresFile | None
) -> int:
    """Run the demo and print it all; return the exit status.

    Args:
        options: What is asked for.
        gates: The runs, in order; the first has the gate.
        binary: The redis-server program.
        file: Where the figures go, if anywhere.

    Raises:
        DemoError: When a run cannot go on, or the file cannot be written after all.
    """
    _allow_files(options.connections)
    console = make_console()
    runs = asyncio.run(_all_runs(options, gates, binary, console))
    if isinstance(runs, int):
        print_error(f"stopped by {signal.Signals(runs).name}; every process is ended")
        return end_by_signal(runs)
    gated, figures = runs[0], [run.figures for run in runs]
    outage = options.outage and not options.full
    wrong = shortcomings(figures[0], outage=outage, grace_seconds=options.grace_seconds)
    print_summary(console, figures)
    if isinstance(figures[0], FullFigures):
        wrong += fall_shortcomings(figures[0])
        print_falls(console, figures[0])
    _print_verdict(console, wrong, figures, gated.last_words)
    _print_export(console, figures[0].trace_id)
    if shows_traces(options, console):
        print_traces(console, gated.spans)
    else:
        console.print("The traces of this run are shown with --traces.", style="bright_black")
    if file is not None:
        try:
            file.write(figures, wrong)
        except OSError as error:
            raise DemoError(f"cannot write the figures: {error}") from None
    return 1 if wrong else 0


def shows_traces(options: DemoOptions, console: Console) -> bool:
    """Whether traces are wanted, or do not push the verdict out of the terminal."""
    return options.traces or (console.is_terminal and console.size.height >= _TALL_LINES)


def _allow_files(connections: int) -> None:
    """Raise the limit of open files where it is too low: each client is one, on either side.

    Raises:
        DemoError: When the system allows no more.
    """
    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):
        raise DemoError(
            f"{connections} clients need {needed} open files, and the system allows {hard}"
        ) from None


async def _all_runs(
    options: DemoOptions, gates: Sequence[Protection], binary: str, console: Console
) -> list[DemoRun] | int:
    """The runs; the number of the signal that came, once every process is ended."""
    runs: list[DemoRun] = []
    with (
        anyio.CancelScope() as scope,
        obeyed(lambda _: scope.cancel(), EventLoop().call) as came,
    ):
        for gate in gates:
            with tempfile.TemporaryDirectory(prefix="startup-orchestrator-demo-") as directory:
                view = make_view(console)
                run = (
                    FullRun(options, binary, Path(directory), view)
                    if options.full
                    else DemoRun(gate, options, binary, Path(directory), view)
                )
                await run()
            runs.append(run)
    return came[0] if came else runs


def _print_export(console: Console, trace_id: str | None) -> None:
    if (endpoint := export_endpoint()) is None:
        return
    # Only the host: an endpoint may carry a token.
    console.print(f"\nThe traces were exported to {_host(endpoint)} too.", markup=False)
    if trace_id is not None:
        console.print(
            f"Look for trace {trace_id}\n"
            f"  in Jaeger:   http://localhost:16686/trace/{trace_id}\n"
            "  in Grafana:  http://localhost:3000/explore, with Tempo: the trace id, or\n"
            f'               {{ name = "startup" && resource.service.name = "{SERVICE_NAME}" }}',
            markup=False,
            soft_wrap=True,
        )


def _host(endpoint: str) -> str:
    try:
        return urlsplit(endpoint).hostname or "the collector"
    except ValueError:
        return "the collector"


def _print_verdict(
    console: Console, wrong: Sequence[str], figures: Sequence[RunFigures], last_words: str
) -> None:
    console.print()
    if not wrong:
        text = "PASSED: with the gate, no client was lost."
        if isinstance(figures[0], FullFigures) and figures[0].falls:
            text = "PASSED: no client was lost, and each fall was noticed as soon as is promised."
        console.print(text, style="bold green")
        if figures[0].stalled:
            console.print(
                "        the event loop stalled for longer than 100 ms: is this machine busy?",
                style="yellow",
            )
        for run in figures[1:]:
            lost = run.clients - run.served
            console.print(
                f"        {TITLES[Protection(run.gate)]}, {lost} of {run.clients} were lost."
            )
        console.print(
            "\nNow with a service of yours, without a line of code:\n"
            "  REDIS_URL=... ORCHESTRATOR_APP=module:app uvicorn orchestrator.auto:app",
            markup=False,
        )
    for what in wrong:
        console.print(f"FAILED: {what}", style="bold red", soft_wrap=True, markup=False)
    if wrong:
        console.print(f"The service said last: {last_words}", soft_wrap=True, markup=False)
