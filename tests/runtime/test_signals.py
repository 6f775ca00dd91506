"""One handler in front of others: it tells its listeners first, and passes every signal on."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType

import anyio
import anyio.lowlevel
import pytest

from orchestrator._runtime.deferral import listeners
from orchestrator._runtime.signals import PassOn, defer_signals

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30.0
BOTH = (signal.SIGTERM, signal.SIGINT)


class Server:
    """A server's own handlers, and what happened in which order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._changed = threading.Event()

    def hear(self, number: int, _: object = None) -> None:
        self.note(signal.Signals(number).name)

    def note(self, what: str) -> None:
        self.seen.append(what)

    async def until(self, *seen: str) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(self.seen) < len(seen):  # a signal handler sets no event
                await anyio.sleep(0.001)
        assert self.seen == [*seen]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Generator[Server]:
    """A server that has put its handlers in place of what was there; and time to answer."""
    for name in ("ANSWER_SECONDS", "BLOCKED_SECONDS", "MOST_SECONDS"):
        monkeypatch.setattr(f"orchestrator._runtime.deferral.{name}", PATIENCE_SECONDS)
    server = Server()
    before = {number: signal.signal(number, server.hear) for number in BOTH}
    yield server
    for number, handler in before.items():
        signal.signal(number, handler)


class Listener:
    """Notes that it heard, and answers when told to."""

    def __init__(self, server: Server, *, busy: bool = True) -> None:
        self.server, self.busy = server, busy
        self.releases: list[PassOn] = []

    def stop(self, pass_on: PassOn, _: signal.Signals) -> None:
        self.server.note("stop")
        self.releases.append(pass_on)

    def answer(self) -> None:
        self.server.note("answered")
        self.busy = False
        for pass_on in self.releases:
            pass_on()

    def listening(self, *numbers: signal.Signals) -> AbstractContextManager[Callable[[], None]]:
        return defer_signals(self.stop, *(numbers or BOTH), unanswered=lambda: int(self.busy))


@pytest.mark.parametrize("number", BOTH)
async def test_the_server_hears_a_signal_after_those_held_are_answered(
    server: Server, number: signal.Signals
) -> None:
    listener = Listener(server)
    with listener.listening():
        os.kill(os.getpid(), number)
        await server.until("stop")
        listener.answer()
        await server.until("stop", "answered", number.name)


async def test_with_nobody_to_answer_the_server_hears_it_in_the_same_moment(
    server: Server,
) -> None:
    with Listener(server, busy=False).listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert server.seen == ["SIGTERM"]
        await server.until("SIGTERM", "stop")


async def test_a_listener_that_never_answers_holds_nothing_up_for_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator._runtime.deferral.ANSWER_SECONDS", 0.3)
    with Listener(server).listening():
        os.kill(os.getpid(), signal.SIGTERM)
        with anyio.fail_after(PATIENCE_SECONDS):
            while sorted(server.seen) != ["SIGTERM", "stop"]:
                await anyio.sleep(0.001)


async def test_while_answers_go_out_the_signal_is_held_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some answers go out in each interval, and then no more."""
    monkeypatch.setattr("orchestrator._runtime.deferral.ANSWER_SECONDS", 0.001)
    left = iter([*range(40, 30, -1), *[30] * 20])
    with defer_signals(lambda *_: None, signal.SIGTERM, unanswered=lambda: next(left)):
        os.kill(os.getpid(), signal.SIGTERM)
        await server.until("SIGTERM")
    assert list(left) == [30] * 9  # the first was an answer, and ten were none


@pytest.mark.parametrize("turns", [1, 3, 6])
async def test_a_loop_that_turns_slowly_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """An overloaded machine: every turn takes longer than an answer may take."""
    monkeypatch.setattr("orchestrator._runtime.deferral.ANSWER_SECONDS", 0.01)
    listener = Listener(server)
    with listener.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(turns):
            time.sleep(0.1)  # this is what makes it slow
            await anyio.lowlevel.checkpoint()
        await server.until("stop")
        listener.answer()
        await server.until("stop", "answered", "SIGTERM")


async def test_a_loop_that_turns_slowly_and_answers_nobody_holds_nothing_up_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator._runtime.deferral.ANSWER_SECONDS", 0.01)
    with Listener(server).listening():
        os.kill(os.getpid(), signal.SIGTERM)
        with anyio.fail_after(PATIENCE_SECONDS):
            while server.seen != ["stop", "SIGTERM"]:
                time.sleep(0.02)
                await anyio.lowlevel.checkpoint()


async def test_one_loop_that_turns_does_not_hide_another_that_is_blocked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator._runtime.deferral.BLOCKED_SECONDS", 0.1)
    listening, done = threading.Event(), threading.Event()

    async def block() -> None:
        with Listener(Server()).listening():
            listening.set()
            done.wait(PATIENCE_SECONDS)  # the application blocks its own loop

    thread = threading.Thread(target=anyio.run, args=(block,))
    thread.start()
    try:
        assert listening.wait(PATIENCE_SECONDS)
        with Listener(server).listening():
            os.kill(os.getpid(), signal.SIGTERM)
            await server.until("stop", "SIGTERM")
    finally:
        done.set()
        thread.join()


async def test_answers_that_go_out_for_ever_hold_nothing_up_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator._runtime.deferral.ANSWER_SECONDS", 0.001)
    monkeypatch.setattr("orchestrator._runtime.deferral.MOST_SECONDS", 0.05)
    left = itertools.count(-1, -1)
    with defer_signals(lambda *_: None, signal.SIGTERM, unanswered=lambda: next(left)):
        os.kill(os.getpid(), signal.SIGTERM)
        await server.until("SIGTERM")


async def test_a_loop_that_is_blocked_holds_nothing_up_for_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator._runtime.deferral.BLOCKED_SECONDS", 0.3)
    with Listener(server).listening():
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not server.seen and time.monotonic() < deadline:
            time.sleep(0.01)  # the application blocks its own loop
        assert server.seen == ["SIGTERM"]
        await server.until("SIGTERM", "stop")


async def test_no_turn_is_waited_for_beyond_the_limit(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator._runtime.deferral.MOST_SECONDS", 0.1)
    with Listener(server).listening():
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_SECONDS / 2
        while not server.seen and time.monotonic() < deadline:
            time.sleep(0.01)  # the application blocks its own loop
        assert server.seen == ["SIGTERM"]


async def test_each_signal_is_passed_on_as_often_as_it_came(server: Server) -> None:
    listener = Listener(server)
    with listener.listening():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        await server.until("stop")
        listener.answer()
        await server.until("stop", "answered", "SIGINT", "SIGINT")
        os.kill(os.getpid(), signal.SIGINT)  # nobody is left to be answered
        await server.until("stop", "answered", "SIGINT", "SIGINT", "SIGINT", "stop")


async def test_all_listeners_are_waited_for(server: Server) -> None:
    first, second = Listener(server), Listener(server)
    with first.listening(), second.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        await server.until("stop", "stop")
        first.answer()
        second.answer()
        await server.until("stop", "stop", "answered", "answered", "SIGTERM")


async def test_one_that_answers_at_once_does_not_speak_for_the_others(server: Server) -> None:
    """Its loop is closed, or it runs in another thread and answers before the next is told."""
    left_behind = Listener(Server()).listening()  # never left

    def lose_a_loop() -> None:
        async def listen() -> None:
            left_behind.__enter__()

        asyncio.run(listen())

    await anyio.to_thread.run_sync(lose_a_loop)
    with at_once_in_another_thread():
        listener = Listener(server)
        with listener.listening():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
                await server.until("stop")
                await anyio.sleep(0.05)  # nothing may happen now
                assert server.seen == ["stop"]
                listener.answer()
                await server.until("stop", "answered", "SIGTERM")
                server.seen.clear()
                listener.busy, listener.releases = True, []


@contextmanager
def at_once_in_another_thread() -> Generator[None]:
    """A listener that has somebody to answer when it is asked, and answers as soon as it hears."""
    listening, done = threading.Event(), threading.Event()

    async def listen() -> None:
        with defer_signals(lambda pass_on, _: pass_on(), signal.SIGTERM, unanswered=lambda: 1):
            listening.set()
            while not done.is_set():  # set by another thread
                await anyio.sleep(0.001)

    thread = threading.Thread(target=anyio.run, args=(listen,))
    thread.start()
    try:
        assert listening.wait(PATIENCE_SECONDS)
        yield
    finally:
        done.set()
        thread.join()


async def test_a_listener_whose_loop_was_given_up_is_forgotten(server: Server) -> None:
    given_up = Listener(server).listening()

    async def listen() -> None:
        given_up.__enter__()

    await anyio.to_thread.run_sync(asyncio.run, listen())
    assert len(listeners) == 1
    with Listener(server).listening():
        assert len(listeners) == 1


async def test_a_listener_that_leaves_has_answered(server: Server) -> None:
    with Listener(server).listening():
        os.kill(os.getpid(), signal.SIGTERM)
        await server.until("stop")
    await server.until("stop", "SIGTERM")
    assert signal.getsignal(signal.SIGTERM) == server.hear


async def test_listeners_come_and_go_in_any_order_and_leave_nothing_behind(
    server: Server,
) -> None:
    chance = random.Random(7)
    inside: list[ExitStack] = []
    for _ in range(2000):
        if inside and chance.random() < 0.5:
            inside.pop(chance.randrange(len(inside))).close()
        else:
            stack = ExitStack()
            numbers = chance.choice([(signal.SIGTERM,), (signal.SIGINT,), BOTH])
            stack.enter_context(Listener(server, busy=False).listening(*numbers))
            inside.append(stack)
    for stack in inside:
        stack.close()
    assert [signal.getsignal(number) for number in BOTH] == [server.hear] * 2
    os.kill(os.getpid(), signal.SIGTERM)
    assert server.seen == ["SIGTERM"]


async def test_a_server_that_comes_later_is_put_behind_when_it_matters(server: Server) -> None:
    later = Server()
    listener = Listener(server)
    with listener.listening() as put_in_front:
        ours = signal.signal(signal.SIGTERM, later.hear)
        put_in_front()
        os.kill(os.getpid(), signal.SIGTERM)
        await server.until("stop")
        assert later.seen == []
        listener.answer()
        await later.until("SIGTERM")
        # As uvicorn does when it ends: it puts back what it found, and repeats the signal.
        signal.signal(signal.SIGTERM, ours)
        os.kill(os.getpid(), signal.SIGTERM)
        await server.until("stop", "answered", "SIGTERM", "stop")
    assert signal.getsignal(signal.SIGTERM) == server.hear


async def test_what_another_put_on_top_stays_and_still_reaches_everybody(server: Server) -> None:
    with Listener(server, busy=False).listening():
        below = signal.getsignal(signal.SIGTERM)

        def on_top(number: int, frame: FrameType | None) -> None:
            assert callable(below)
            below(number, frame)

        signal.signal(signal.SIGTERM, on_top)
    for _ in range(50):
        with Listener(server, busy=False).listening():
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    assert server.seen == ["SIGTERM"]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
async def test_what_is_ignored_or_left_to_the_system_stays_so(
    server: Server, handler: signal.Handlers
) -> None:
    signal.signal(signal.SIGTERM, handler)
    with Listener(server).listening() as put_in_front:
        put_in_front()
        assert signal.getsignal(signal.SIGTERM) is handler


async def test_another_thread_can_listen_but_installs_nothing(server: Server) -> None:
    heard = threading.Event()
    ready, done = threading.Event(), threading.Event()

    async def listen() -> None:
        def stop(pass_on: PassOn, _: signal.Signals) -> None:
            heard.set()
            pass_on()

        with defer_signals(stop, signal.SIGTERM, unanswered=lambda: 1) as put_in_front:
            put_in_front()
            ready.set()
            while not done.is_set():  # set by another thread
                await anyio.sleep(0.001)

    thread = threading.Thread(target=anyio.run, args=(listen,))
    thread.start()
    try:
        assert ready.wait(PATIENCE_SECONDS)
        assert signal.getsignal(signal.SIGTERM) == server.hear
        with Listener(server, busy=False).listening():
            os.kill(os.getpid(), signal.SIGTERM)
            with anyio.fail_after(PATIENCE_SECONDS):
                while sorted(server.seen) != ["SIGTERM", "stop"]:
                    await anyio.sleep(0.001)
            assert await anyio.to_thread.run_sync(heard.wait, PATIENCE_SECONDS)
    finally:
        done.set()
        thread.join()
    assert signal.getsignal(signal.SIGTERM) == server.hear


@pytest.mark.parametrize("held_back", [False, True])
async def test_a_child_that_was_forked_passes_signals_on_at_once(
    server: Server, held_back: bool
) -> None:
    with Listener(server).listening():
        if held_back:
            os.kill(os.getpid(), signal.SIGTERM)
            await server.until("stop")
            server.seen.clear()
        pid = os.fork()
        if pid == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0 if server.seen == ["SIGTERM"] else 1)
            finally:
                os._exit(2)
        _, status = await anyio.to_thread.run_sync(os.waitpid, pid, 0)
        assert status == 0
        assert server.seen == []
    await server.until(*["SIGTERM"] * held_back)


# -- handlers that an event loop keeps -------------------------------------------------------------


@pytest.fixture
async def loop_handler() -> AsyncGenerator[Server]:
    """A handler of asyncio's or uvloop's `add_signal_handler`."""
    server = Server()
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    loop.add_signal_handler(signal.SIGTERM, server.hear, signal.SIGTERM)
    yield server
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
@pytest.mark.usefixtures("anyio_backend")
async def test_a_handler_of_the_loop_hears_it_once_and_after_the_listener(
    loop_handler: Server,
) -> None:
    with Listener(loop_handler).listening(signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
        await loop_handler.until("stop", "SIGTERM")
        os.kill(os.getpid(), signal.SIGTERM)
        await loop_handler.until("stop", "SIGTERM", "stop", "SIGTERM")


# -- how the process ends --------------------------------------------------------------------------

PROGRAM = """
    import asyncio, os, signal, sys
    from orchestrator._runtime.signals import defer_signals

    def handler(number, frame):
        {handler}

    if {number} != signal.SIGINT or {own}:
        signal.signal({number}, handler)

    async def main():
        both = (signal.SIGTERM, signal.SIGINT)
        with defer_signals(lambda *_: None, *both, unanswered=lambda: 1):
            os.kill(os.getpid(), {number})
            while True:
                await asyncio.sleep(0.01)

    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("number", "handler", "status", "says"),
    [
        (signal.SIGTERM, "sys.exit(7)", 7, ""),
        (signal.SIGTERM, "raise LookupError('stop')", 1, "LookupError: stop"),
        (signal.SIGTERM, "os._exit(9)", 9, ""),
        (signal.SIGINT, "raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        (signal.SIGINT, None, -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_what_the_handler_raises_ends_the_process_as_without_a_listener(
    number: signal.Signals, handler: str | None, status: int, says: str
) -> None:
    program = textwrap.dedent(PROGRAM).format(
        number=int(number), handler=handler or "pass", own=handler is not None
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == status
    assert says in ended.stderr


# -- drains ----------------------------------------------------------------------------------------


class Drains(Listener):
    """Drains, which takes until it is told to answer, or until somebody is in a hurry."""

    seconds = PATIENCE_SECONDS

    def listening(self, *numbers: signal.Signals) -> AbstractContextManager[Callable[[], None]]:
        return defer_signals(
            self.stop,
            *(numbers or BOTH),
            unanswered=lambda: int(self.busy),
            drain_seconds=lambda: self.seconds,
            hurry=lambda why: self.server.note(f"hurry: {why}"),
        )


@pytest.mark.parametrize("more", [["SIGTERM"], ["SIGINT"], ["SIGTERM", "SIGINT", "SIGTERM"]])
async def test_one_stop_that_arrives_as_several_signals_is_one_drain_and_heard_once(
    server: Server, more: list[str]
) -> None:
    listener = Drains(server)
    with listener.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        for name in more:
            os.kill(os.getpid(), signal.Signals[name])
        await server.until("stop")
        await anyio.sleep(0.01)
        listener.answer()
        await server.until("stop", "answered", "SIGTERM")


async def test_a_signal_in_the_handler_of_the_first_is_the_same_drain(server: Server) -> None:
    listener = Drains(server)
    again = [signal.SIGTERM]

    def unanswered() -> int:  # asked in the handler
        if again:
            signal.raise_signal(again.pop())
        return int(listener.busy)

    with defer_signals(
        listener.stop, *BOTH, unanswered=unanswered, drain_seconds=lambda: listener.seconds
    ):
        signal.raise_signal(signal.SIGTERM)
        await server.until("stop")
        listener.answer()
        await server.until("stop", "answered", "SIGTERM")


async def test_a_signal_that_arrives_as_the_first_is_passed_on_is_the_same_drain(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_on = signal.pthread_kill

    def while_another_arrives(thread: int, number: int) -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.02)  # the main thread takes that one meanwhile
        pass_on(thread, number)
        server.note("passed on")

    monkeypatch.setattr(signal, "pthread_kill", while_another_arrives)
    listener = Drains(server)
    with listener.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        await server.until("stop")
        listener.answer()
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(server.seen) < 4:
                await anyio.sleep(0.001)
        await anyio.sleep(0.01)
        assert sorted(server.seen) == ["SIGTERM", "answered", "passed on", "stop"]


async def test_a_second_ctrl_c_that_is_meant_ends_a_drain(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Drains(server).listening():
        os.kill(os.getpid(), signal.SIGINT)
        await server.until("stop")
        os.kill(os.getpid(), signal.SIGINT)  # a process group sends the same again at once
        assert server.seen == ["stop"]
        monkeypatch.setattr("orchestrator._runtime.deferral.MEANT_SECONDS", 0.0)
        os.kill(os.getpid(), signal.SIGINT)
        # uvicorn ends at once at the second one that it hears.
        assert server.seen == ["stop", "hurry: SIGINT", "SIGINT", "SIGINT"]
        await anyio.sleep(0.01)
        assert len(server.seen) == 4, "the thread that kept the time sends nothing any more"


@pytest.mark.skipif(not hasattr(signal, "SIGQUIT"), reason="Windows has no SIGQUIT")
async def test_sigquit_ends_a_drain_and_is_heard_at_once(server: Server) -> None:
    before = signal.signal(signal.SIGQUIT, server.hear)
    try:
        with Drains(server).listening(signal.SIGTERM, signal.SIGQUIT):
            os.kill(os.getpid(), signal.SIGTERM)
            await server.until("stop")
            os.kill(os.getpid(), signal.SIGQUIT)
            assert server.seen == ["stop", "hurry: SIGQUIT", "SIGTERM", "SIGQUIT"]
    finally:
        signal.signal(signal.SIGQUIT, before)


async def test_a_blocked_loop_does_not_hold_a_drain_up_beyond_its_limit(server: Server) -> None:
    listener = Drains(server)
    listener.seconds = 0.05
    with listener.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        limit = time.monotonic() + PATIENCE_SECONDS
        while not server.seen and time.monotonic() < limit:
            time.sleep(0.001)  # this is what blocks it
        assert server.seen == ["SIGTERM"]
