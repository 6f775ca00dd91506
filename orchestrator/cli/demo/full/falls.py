"""What is promised when something falls, what became of it, and how that is shown."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.demo.figures import RunFigures
from states import Policy

CHECK_INTERVAL_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 0.5
STALE_SECONDS = 1.0
"""The numbers of the checks and of the task that can hang, in the demo's service."""

_SLACK_SECONDS = 0.3
"""What processes and a busy machine may take besides."""

RECOVERED_SECONDS = 2.5
"""How soon after the return of what fell the service must be ready again. A task is started again
after a pause, and grace of 0.5 s is served."""


@dataclass(frozen=True, slots=True)
class FallFigure:
    """One fall.

    Attributes:
        name: What fell.
        how: How.
        noticed_seconds: From the fall until the service knew it.
        promised_seconds: How long that may take.
        ready_seconds: From the return of what fell until the service was ready again.
        clients: How many clients came meanwhile.
        served: How many of them were served in the end.
    """

    name: str
    how: str
    noticed_seconds: float
    promised_seconds: float
    ready_seconds: float
    clients: int
    served: int


@dataclass(slots=True)
class FullFigures(RunFigures):
    """What a full run measured.

    Attributes:
        falls: What fell, in order.
        account: Where the start went, in a line.
        without: What was left out, and why.
    """

    falls: list[FallFigure] = field(default_factory=list)
    account: str = ""
    without: str = ""


def promised_of_a_connection(policy: Policy) -> float:
    """How soon the end of a connection that is held must be known.

    It is noticed at once. Whether it is an outage is confirmed by further attempts, which are
    refused at once.
    """
    steps = policy.failures_to_degrade - 1
    return steps * policy.confirm_interval_seconds * (1 + policy.retry_jitter) + _SLACK_SECONDS


def promised_of_a_check(policy: Policy) -> float:
    """The same of what is asked anew each time: it is noticed with the next attempt."""
    interval = policy.probe_interval_seconds * (1 + policy.retry_jitter)
    return interval + promised_of_a_connection(policy)


def promised_of_a_task(stale_seconds: float = 0.0) -> float:
    """How soon the end of a task must be known, or that it hangs."""
    return stale_seconds + _SLACK_SECONDS


def fall_shortcomings(figures: FullFigures) -> list[str]:
    """What was not kept of the promises."""
    wrong = []
    for fall in figures.falls:
        if fall.noticed_seconds > fall.promised_seconds:
            wrong.append(
                f"the fall of {fall.name} was noticed after {fall.noticed_seconds:.3f} s, more than"
                f" {fall.promised_seconds:.2f} s"
            )
        if fall.ready_seconds > RECOVERED_SECONDS:
            wrong.append(f"{fall.name} was back, and ready only {fall.ready_seconds:.3f} s later")
        if fall.served != fall.clients:
            lost = fall.clients - fall.served
            wrong.append(f"{lost} clients were lost while {fall.name} was down")
    return wrong


def print_falls(console: Console, figures: FullFigures) -> None:
    """A row for each."""
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    for head in ("what fell", "how", "noticed", "promised", "ready again", "served"):
        table.add_column(head, justify="left" if head in ("what fell", "how") else "right")
    for fall in figures.falls:
        kept = fall.noticed_seconds <= fall.promised_seconds
        table.add_row(
            fall.name,
            fall.how,
            Text(f"{fall.noticed_seconds:.3f} s", "green" if kept else "red"),
            f"{fall.promised_seconds:.2f} s",
            f"{fall.ready_seconds:.3f} s",
            Text(
                f"{fall.served} of {fall.clients}",
                "green" if fall.served == fall.clients else "red",
            ),
        )
    console.print()
    console.print(table)


def struck_by(strike: Callable[[], float]) -> Callable[[], Awaitable[float]]:
    """The same, as a fall strikes."""

    async def struck() -> float:
        return strike()

    return struck
