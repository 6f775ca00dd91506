"""`startup-orchestrator demo`: the runs, their summary, and the exit status."""

import asyncio
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from orchestrator.cli.demo.choices import DemoOptions
from orchestrator.cli.demo.demo_error import DemoError
from orchestrator.cli.demo.figures import FiguresFile, RunFigures, shortcomings
from orchestrator.cli.demo.live_view import make_console, make_view
from orchestrator.cli.demo.measure import TITLES, Run
from orchestrator.cli.demo.picture import write_picture
from orchestrator.cli.demo.reports import SERVICE_NAME, Gate, export_endpoint
from orchestrator.cli.demo.summary import print_summary, print_traces

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_BY_SIGNAL = 128
_OTHER_FILES = 256
"""Open files besides the clients', generously."""

_TALL_LINES = 60
"""A terminal with so many lines shows verdict and traces at once."""


def run_demo(
    options: DemoOptions, gates: Sequence[Gate], binary: str, file: FiguresFile | None
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
    stopped_by = _StopSignal()
    try:
        runs = asyncio.run(_all_runs(options, gates, binary, console, stopped_by))
    except asyncio.CancelledError:
        print(f"stopped by {stopped_by.name}; every process is ended", file=sys.stderr)  # noqa: T201  a command line
        return _EXIT_BY_SIGNAL + stopped_by.number
    gated, figures = runs[0], [run.figures for run in runs]
    wrong = shortcomings(figures[0], outage=options.outage, grace_seconds=options.grace_seconds)
    if options.svg is not None:
        write_picture(options.svg, gated.spans)
    print_summary(console, figures)
    _print_verdict(console, wrong, figures, gated.last_words)
    _print_export(console, figures[0].trace_id)
    if options.traces or (console.is_terminal and console.size.height >= _TALL_LINES):
        print_traces(console, gated.spans)
    else:
        console.print("The traces of this run are shown with --traces.", style="bright_black")
    if file is not None:
        try:
            file.write(figures, wrong)
        except OSError as error:
            raise DemoError(f"cannot write the figures: {error}") from None
    return 1 if wrong else 0


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


class _StopSignal:
    """Cancels a task when the process is asked to end, and remembers by what."""

    def __init__(self) -> None:
        self.number = 0

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name

    def cancels(self, task: asyncio.Task[object]) -> None:
        """From now on. Repeated signals do not break off what is being tidied up."""

        def stop(number: int) -> None:
            if not self.number:
                self.number = number
                task.cancel()

        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)


async def _all_runs(
    options: DemoOptions,
    gates: Sequence[Gate],
    binary: str,
    console: Console,
    stopped_by: _StopSignal,
) -> list[Run]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine that runs is in a task
    stopped_by.cancels(task)
    runs: list[Run] = []
    for gate in gates:
        with tempfile.TemporaryDirectory(prefix="startup-orchestrator-demo-") as directory:
            run = Run(gate, options, binary, Path(directory), make_view(console))
            await run()
        if stopped_by.number:  # it came while the run was tidying up, and was not felt there
            raise asyncio.CancelledError
        runs.append(run)
    return runs


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
        console.print("PASSED: with the gate, no client was lost.", style="bold green")
        if figures[0].stalled:
            console.print(
                "        the event loop stalled for longer than 100 ms: is this machine busy?",
                style="yellow",
            )
        for run in figures[1:]:
            lost = run.clients - run.served
            console.print(f"        {TITLES[Gate(run.gate)]}, {lost} of {run.clients} were lost.")
    for what in wrong:
        console.print(f"FAILED: {what}", style="bold red", soft_wrap=True, markup=False)
    if wrong:
        console.print(f"The service said last: {last_words}", soft_wrap=True, markup=False)
