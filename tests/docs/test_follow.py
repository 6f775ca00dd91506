"""Each path through the code that `docs/explanation/follow.md` shows is really taken."""

import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

import anyio
import pytest

from orchestrator import Policy, Stage
from orchestrator.asgi import ReadinessGate
from orchestrator.checks import amqp
from orchestrator.testing import REFUSED, ScriptedProbe
from tests.asgi.gate_support import Caller, Startup, websocket_scope
from tests.checks.test_protocol_faults import (
    CHANNEL_OK,
    OPEN_OK,
    START,
    TUNE,
    amqp_server,
    failure_of,
    url,
)
from tests.otel.otel_support import Traced
from tests.redis_server import FakeServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/follow.md"

_ROW = re.compile(r"\| (\w*) *\| `([^`]+)` \| `([^`]+)` \| .+ \|")

Function = tuple[str, str]
"""Its file, and its name in there."""

Stack = list[Function]
"""The functions that are under way, the innermost first."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        through: How its function is reached.
        function: The function.
    """

    through: str
    function: Function


def ways() -> dict[str, list[Row]]:
    """The rows of each section of the page, by its heading."""
    sections = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        heading: [Row(through, (file, name)) for through, name, file in _ROW.findall(text)]
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }


@cache
def function_of(code: CodeType) -> Function:
    """What a code object is of; its file is empty outside of the product."""
    file = Path(code.co_filename)
    where = str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else ""
    return where, code.co_qualname


def stack_of(frame: FrameType | None) -> Stack:
    stack = []
    while frame is not None:
        stack.append(function_of(frame.f_code))
        frame = frame.f_back
    return stack


@contextmanager
def watched(way: Sequence[Row]) -> Iterator[list[Stack]]:
    """The stack of each function of a way that begins, or goes on, here and in all new threads."""
    stacks: list[Stack] = []
    wanted = {row.function for row in way}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and function_of(frame.f_code) in wanted:
            stacks.append(stack_of(frame))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield stacks
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def is_reached(row: Row, above: Sequence[Function], stack: Stack) -> bool:
    """Whether a function is that of the row, and reached as the row says after those above it."""
    inside, callers = stack[0], stack[1:]
    if inside != row.function:
        return False
    by_last = bool(above) and above[-1] in callers
    match row.through:
        case "call":
            return by_last
        case "then":
            return not by_last and any(one in callers for one in above)
        case "signal":  # which may come in between anything
            return True
    return not any(one in callers for one in above)


def first_missing(way: Sequence[Row], stacks: Sequence[Stack]) -> Row | None:
    """The first row that is not reached after those above it, in the way that it says."""
    remaining, above = iter(stacks), list[Function]()
    for row in way:
        if not any(is_reached(row, above, stack) for stack in remaining):
            return row
        above.append(row.function)
    return None


async def degrade(_: list[Stack]) -> None:
    traced, probe = Traced(), ScriptedProbe()
    async with traced.orchestrator(probe) as startup:
        await traced.clock.advance(30)
        await startup.wait_for(Stage.READY)
        probe.then(REFUSED)
        await traced.clock.advance(30)
        await startup.wait_for(Stage.DEGRADED)
    assert traced.one("degrade").status.description == REFUSED.reason


async def stop_with_a_held_client(stacks: list[Stack]) -> None:
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        # A signal that comes while a profiler runs is not profiled.
        stacks.append(stack_of(sys._getframe(1)))
        heard.append(number)

    before = signal.signal(signal.SIGTERM, hear)
    policy = Policy(drain_announce_seconds=0.1, drain_close_seconds=0.0, drain_limit_seconds=20.0)
    startup = Startup(policy=policy)
    client = Caller(ReadinessGate(_never, startup, hold_seconds=60), websocket_scope())
    try:
        with anyio.fail_after(60):
            async with startup, anyio.create_task_group() as tasks:
                tasks.start_soon(client.run)
                while not client.app._admission.held:  # type: ignore[attr-defined]  # it is a gate
                    await anyio.sleep(0.01)
                signal.raise_signal(signal.SIGTERM)
                while not heard:  # a handler has no event to wait for
                    await anyio.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert client.sent[0]["status"] == 503


async def _never(*_: object) -> None:
    raise AssertionError("no client is let in")


async def ask_a_broker(_: list[Stack]) -> None:
    with FakeServer(amqp_server(START, TUNE, OPEN_OK, CHANNEL_OK)) as server:
        assert await failure_of(amqp(url(server.port))) is None


GONE: dict[str, Callable[[list[Stack]], Awaitable[None]]] = {
    "Why did my service go to `degraded`, and which span says so?": degrade,
    "What happens to a held client at SIGTERM?": stop_with_a_held_client,
    "Where would I add a probe for MySQL?": ask_a_broker,
}
"""What goes the way of each section."""


def test_every_section_is_gone_through() -> None:
    assert ways().keys() == GONE.keys()
    text = PAGE.read_text(encoding="utf-8")
    assert sum(map(len, ways().values())) == text.count("\n| ") - len(GONE)  # all but the heads


@pytest.mark.parametrize("heading", GONE)
async def test_each_way_is_gone(heading: str) -> None:
    way = ways()[heading]
    with watched(way) as stacks:
        await GONE[heading](stacks)
    assert len(way) > 5
    assert first_missing(way, stacks) is None
    # It would be noticed if the page said anything else.
    assert first_missing(way[::-1], stacks) is not None
    for number, row in enumerate(way):
        if row.through not in ("call", "then", "signal", ""):
            wrong = Row("then", row.function)
            assert first_missing([*way[:number], wrong], stacks) is wrong
