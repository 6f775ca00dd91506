"""Log lines, and what the application's logging set-up may do to them and to us."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Never

import anyio
import pytest

from orchestrator import Fact, Observer, Orchestrator, Stage, StageChanged
from orchestrator._hardening.log_thread import Log, _writer, logger
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe


class PanicException(BaseException):
    """No `Exception`, and yet the fault of whoever raised it."""


WRONG = [
    ConnectionError("the collector is away"),
    RecursionError(),
    asyncio.CancelledError(),
    GeneratorExit(),
    PanicException(),
    BaseExceptionGroup("several", [PanicException(), ValueError()]),
]
"""What no log call, observer or callback may end us with."""

NAMES = [type(error).__name__ for error in WRONG]


class Sink(logging.Handler):
    """Does with each record what the test says."""

    def __init__(self, act: Callable[[logging.LogRecord], object]) -> None:
        super().__init__(logging.INFO)
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        self.act(record)


class Lines(Sink):
    """Keeps the records."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        super().__init__(self.records.append)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The last handler of our logger."""
    handler, ours = Lines(), logging.getLogger("orchestrator")
    level = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    yield handler
    ours.removeHandler(handler)
    ours.setLevel(level)


@pytest.fixture
def first_handler() -> Iterator[Callable[[logging.Handler], None]]:
    """Puts a handler before the others of our logger."""
    ours, added = logging.getLogger("orchestrator"), list[logging.Handler]()

    def add(handler: logging.Handler) -> None:
        added.append(handler)
        ours.handlers.insert(0, handler)

    yield add
    for handler in added:
        ours.removeHandler(handler)


@pytest.fixture
def by_a_thread() -> Iterator[None]:
    """Lines are written as outside of tests."""
    _writer.at_once = False
    yield
    assert _writer.wait(10)
    _writer.at_once = True


@pytest.fixture
def record_factory() -> Iterator[Callable[[Callable[..., logging.LogRecord]], None]]:
    before = logging.getLogRecordFactory()
    yield logging.setLogRecordFactory
    logging.setLogRecordFactory(before)


def raiser(error: BaseException) -> Callable[..., Never]:
    def act(*_: object, **__: object) -> Never:
        raise error

    return act


def stage(startup: Orchestrator) -> Stage:
    """The stage now; a type checker would take the property for a constant."""
    return startup.stage


async def a_life() -> Orchestrator:
    """A start-up, an outage of which a WARNING is logged, and its end."""
    clock, probe = ManualClock(), ScriptedProbe([None])
    startup = Orchestrator(probe, conditions=["c"], clock=clock)
    async with startup:
        startup.condition("c").set(True)
        await clock.advance(0)
        assert startup.stage is Stage.READY
        startup.condition("c").set(False)
        await clock.advance(0)
        probe.then(REFUSED, None)
        startup.condition("c").set(True)
        await clock.advance(20)
        assert startup.running
        assert startup.stage is Stage.READY
    return startup


# -- handlers, filters, formatters ----------------------------------------------------------------


@pytest.mark.parametrize("error", WRONG, ids=NAMES)
@pytest.mark.anyio
async def test_a_handler_that_raises_takes_the_line_from_no_other(
    error: BaseException, lines: Lines, first_handler: Callable[[logging.Handler], None]
) -> None:
    first_handler(Sink(raiser(error)))
    await a_life()
    assert len([r for r in lines.records if r.levelno == logging.WARNING]) == 1
    assert len(lines.records) >= 6


@pytest.mark.parametrize("error", WRONG, ids=NAMES)
@pytest.mark.anyio
async def test_filters_and_formatters_that_raise_end_nothing(
    error: BaseException, lines: Lines, first_handler: Callable[[logging.Handler], None]
) -> None:
    class Formatter(logging.Formatter):
        format = raiser(error)

    formats, filters = logging.StreamHandler(), Lines()
    formats.setFormatter(Formatter())
    filters.addFilter(raiser(error))
    first_handler(formats)
    first_handler(filters)
    await a_life()
    assert len(lines.records) >= 6
    ours = logging.getLogger("orchestrator")
    ours.addFilter(broken := raiser(error))
    try:
        await a_life()
    finally:
        ours.removeFilter(broken)


@pytest.mark.anyio
async def test_a_handler_that_logs_to_us_is_no_endless_recursion(
    lines: Lines, first_handler: Callable[[logging.Handler], None]
) -> None:
    times = 0

    def again(record: logging.LogRecord) -> None:
        nonlocal times
        times += 1
        if times < 5000:  # far deeper than Python's limit
            logger.warning("again: %s", record.getMessage()[:20])

    first_handler(Sink(again))
    await a_life()
    assert times >= 5000
    assert len(lines.records) >= times


@pytest.mark.anyio
async def test_a_handler_that_uses_the_orchestrator_does_no_harm(
    first_handler: Callable[[logging.Handler], None],
) -> None:
    clock = ManualClock()
    startup = Orchestrator(ScriptedProbe(), conditions=["c", "log"], clock=clock)

    def act(record: logging.LogRecord) -> None:
        startup.explain()
        startup.condition("log").set(record.levelno < logging.WARNING, reason=record.getMessage())

    async with startup:
        startup.condition("log").set(True)
        startup.condition("c").set(True)
        await clock.advance(0)
        first_handler(Sink(act))
        startup.condition("c").set(False)
        await clock.advance(0)
        assert stage(startup) is Stage.DEGRADED
        startup.condition("c").set(True)
        startup.condition("log").set(True)
        await clock.advance(1)
        assert stage(startup) is Stage.READY


# -- slow handlers --------------------------------------------------------------------------------


@pytest.mark.usefixtures("by_a_thread")
@pytest.mark.anyio
async def test_a_handler_that_hangs_delays_neither_the_loop_nor_the_end_for_long(
    first_handler: Callable[[logging.Handler], None], lines: Lines
) -> None:
    hung = threading.Event()
    first_handler(Sink(lambda _: hung.wait(60)))
    try:
        began_at = time.perf_counter()
        await a_life()
        assert time.perf_counter() - began_at < 30  # it hangs for a minute, six times
        assert lines.records == []
    finally:
        hung.set()
    assert _writer.wait(10)
    assert len(lines.records) >= 6


@pytest.mark.usefixtures("by_a_thread")
def test_more_lines_than_are_kept_are_counted(
    first_handler: Callable[[logging.Handler], None], lines: Lines
) -> None:
    hung = threading.Event()
    first_handler(Sink(lambda _: hung.wait(60)))
    for number in range(300):
        logger.info("line %d", number)
    hung.set()
    assert _writer.wait(10)
    texts = [record.getMessage() for record in lines.records]
    assert texts[0] == "line 0"
    assert 256 <= len(texts) <= 258
    assert sum("other lines were left out" in text for text in texts) == 1


@pytest.mark.usefixtures("by_a_thread")
def test_lines_keep_their_order_and_no_thread_is_left(lines: Lines) -> None:
    def log(who: int) -> None:
        for number in range(200):
            logger.info("%d %d", who, number)
            time.sleep(0)

    threads = [threading.Thread(target=log, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _writer.wait(10)
    texts = [record.getMessage() for record in lines.records]
    for who in range(4):
        mine = [int(text.split()[1]) for text in texts if text.split()[0] == str(who)]
        assert mine == sorted(mine)
    until = time.monotonic() + 10
    while any(thread.name == "orchestrator-log" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.001)


_PROGRAM = """
import logging, os, sys, time
from orchestrator._hardening.log_thread import logger

class Slow(logging.StreamHandler):
    def emit(self, record):
        time.sleep(0.1)
        super().emit(record)

logging.basicConfig(level=logging.INFO, handlers=[Slow(sys.stdout)], format="%(message)s")
logger.info("the last words of %s", "parent" if os.fork() else "child")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_last_lines_are_written_before_the_process_ends_in_forked_ones_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert sorted(done.stdout.splitlines()) == [
        "the last words of child",
        "the last words of parent",
    ]


_HANGS = """
import logging, threading
from orchestrator._hardening.log_thread import logger

class Hangs(logging.Handler):
    def emit(self, record):
        print("hangs", flush=True)
        threading.Event().wait()

class Closes(logging.Handler):
    def close(self):
        print("closed", flush=True)

logging.basicConfig(level=logging.INFO, handlers=[Hangs(), Closes()])
logger.info("the last words")
"""


def test_a_handler_that_hangs_does_not_keep_the_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HANGS], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("hangs\nclosed\n", "")


# -- records --------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    "names",
    [
        ["stage", "previous_stage", "stage_sequence", "elapsed_seconds", "trace_id"],
        ["orchestrator_stage", "orchestrator_elapsed_seconds"],
    ],
)
async def test_what_a_record_factory_sets_stays_and_the_line_is_logged(
    names: list[str],
    lines: Lines,
    record_factory: Callable[[Callable[..., logging.LogRecord]], None],
) -> None:
    made_before = logging.getLogRecordFactory()

    def factory(*args: object, **named: object) -> logging.LogRecord:
        record = made_before(*args, **named)
        for name in names:
            setattr(record, name, "the application's")
        return record

    record_factory(factory)
    await a_life()
    stages = [record for record in lines.records if "->" in record.getMessage()]
    assert len(stages) >= 6
    for record in stages:
        assert {vars(record)[name] for name in names} == {"the application's"}
        assert vars(record)["orchestrator_previous_stage"] in list(Stage)


class Fixed(logging.LogRecord):
    """A record that has room for nothing more."""

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("orchestrator"):
            raise AttributeError(name)
        super().__setattr__(name, value)


def _context_is_missing(*_: object, **__: object) -> logging.LogRecord:
    raise LookupError("request_id")  # as a ContextVar without a value


@pytest.mark.anyio
@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
@pytest.mark.parametrize("factory", [Fixed, _context_is_missing])
async def test_a_record_factory_that_is_broken_takes_no_line_and_ends_nothing(
    factory: Callable[..., logging.LogRecord],
    level: int,
    lines: Lines,
    record_factory: Callable[[Callable[..., logging.LogRecord]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(level)  # of the engine, too, which logs in the middle of a transition
    record_factory(factory)
    await a_life()
    assert len([record for record in lines.records if "->" in record.getMessage()]) >= 6


@pytest.mark.anyio
async def test_whatever_is_in_a_record_of_a_start_can_be_written_as_json(lines: Lines) -> None:
    async with Orchestrator(ScriptedProbe("ok"), conditions=["c"]) as startup:
        startup.condition("c").set(True)
        await startup.wait_for(Stage.READY, timeout_seconds=5)
        startup.condition("c").set(False, reason="it is away")
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=5)
    said = " ".join(record.getMessage() for record in lines.records)
    assert "last to hold" in said
    assert "it is away" in said or "condition c is lost" in said
    for record in lines.records:
        json.dumps(vars(record))


def test_a_record_tells_where_it_was_logged(lines: Lines) -> None:
    Log("orchestrator.some").info("here", extra={"stage": "ready"})
    record = lines.records[0]
    assert record.name == "orchestrator.some"
    assert record.funcName == "test_a_record_tells_where_it_was_logged"
    assert record.pathname == __file__
    assert record.threadName == "MainThread"
    assert vars(record)["orchestrator_stage"] == "ready"


@pytest.mark.usefixtures("lines")
def test_the_end_of_the_process_is_let_through(
    first_handler: Callable[[logging.Handler], None],
) -> None:
    first_handler(Sink(raiser(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        logger.info("a Ctrl-C arrives in whatever runs just then")
    logging.getLogger("orchestrator").handlers[0].setLevel(logging.CRITICAL)
    logger.info("and the next line is written as ever")
    assert _writer.idle


# -- observers and callbacks ----------------------------------------------------------------------


class Raising(Observer):
    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        self.calls += 1
        raise self.error

    def stopped(self, at: float) -> None:  # the port's
        raise self.error

    async def aclose(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", WRONG, ids=NAMES)
@pytest.mark.anyio
async def test_whatever_observers_and_callbacks_raise_is_said_once_and_ends_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    clock, observer, calls = ManualClock(), Raising(error), list[Stage]()
    startup = Orchestrator(ScriptedProbe(), conditions=["c"], observers=[observer], clock=clock)

    @startup.on(*Stage)
    def plain(event: StageChanged) -> None:
        calls.append(event.current)
        raise error

    @startup.on(*Stage)
    async def awaited(event: StageChanged) -> None:
        await anyio.lowlevel.checkpoint()
        calls.append(event.current)
        raise error

    async with startup:
        startup.condition("c").set(True)
        await clock.advance(1)
        startup.condition("c").set(False)
        await clock.advance(1)
        assert startup.stage is Stage.DEGRADED
    assert observer.calls >= 5
    assert len(calls) == 8, "both are called at each of the four events"
    assert caplog.text.count("this is logged only once") == 3
    assert caplog.text.count("times in all") == 3


@pytest.mark.anyio
async def test_a_name_in_the_log_holds_no_argument_of_a_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def notify(_url: str, _event: StageChanged) -> None:
        raise OSError

    clock = ManualClock()
    startup = Orchestrator(ScriptedProbe(), clock=clock)
    startup.on(Stage.READY)(partial(notify, "https://hooks.example/T0/hunter2"))
    async with startup:
        await clock.advance(0)
    assert "notify raised OSError" in caplog.text
    assert "hunter2" not in caplog.text
