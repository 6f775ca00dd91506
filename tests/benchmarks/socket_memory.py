"""What one more WebSocket takes in memory behind the gate: open, and held; the server apart."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

from orchestrator import Policy, Stage
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import CONNECT, NO_DRAIN, Startup, websocket_scope
from tests.benchmarks.ready_names import ALONE, GATE, NO_CLOSES
from tests.benchmarks.rows import Figure, Row, Verdict

PART = "crowd"
SOCKETS = 1_000
EVENT = "a task that waits for an event"

_MOST_OPEN_BYTES, _MOST_HELD_TIMES = 1_250, 6.0


async def accepts(_: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and waits for a message that does not come."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


class Connection:
    """The server's side of one WebSocket, which says nothing more."""

    __slots__ = ("_connected",)

    def __init__(self) -> None:
        self._connected = False

    async def receive(self) -> Message:
        """The handshake, and then nothing."""
        if not self._connected:
            self._connected = True
            return CONNECT
        await asyncio.get_running_loop().create_future()
        raise AssertionError("it is never resolved")

    async def send(self, _: Message) -> None:
        """Nowhere."""


async def _bytes_each(app: ASGIApp, number: int) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = []
    for _ in range(number):
        one = Connection()
        tasks.append(asyncio.create_task(_handle(app, one)))
    for _ in range(20):
        await asyncio.sleep(0)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used / number


async def _handle(app: ASGIApp, one: Connection) -> None:
    await app(websocket_scope("/chat"), one.receive, one.send)


async def _open(make: Callable[[Startup], ASGIApp], policy: Policy | None, number: int) -> float:
    async with Startup(policy=policy) as startup:
        app = make(startup)
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        if isinstance(app, ReadinessGate):
            # All are wrapped until the release is over, which begins with the first client.
            first = asyncio.create_task(_handle(app, Connection()))
            while app._admission.turnstile.young:
                await asyncio.sleep(0.05)  # it has no event for it
            first.cancel()
        return await _bytes_each(app, number)


async def _held(number: int) -> float:
    async with Startup() as startup:
        gate = ReadinessGate(accepts, startup, max_held=number, hold_seconds=60)
        return await _bytes_each(gate, number)


async def _waiting(number: int) -> float:
    event = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await event.wait()
        await accepts(scope, receive, send)

    return await _bytes_each(wait, number)


def rows(number: int = SOCKETS) -> list[Row]:
    """Both rows; it does not vary, so that each is counted once."""

    def figure(name: str, used: float) -> Figure:
        return Figure(name, (used,))

    bare = figure(ALONE, asyncio.run(_open(lambda _: accepts, None, number)))
    gate = figure(GATE, asyncio.run(_open(lambda s: ReadinessGate(accepts, s), None, number)))
    plain = figure(
        f"{NO_CLOSES}, drain_limit_seconds=0",
        asyncio.run(
            _open(lambda s: ReadinessGate(accepts, s, count_closes=False), NO_DRAIN, number)
        ),
    )
    held, waiting = asyncio.run(_held(number)), asyncio.run(_waiting(number))
    more = gate.median - bare.median
    over = f"{more:.0f} B more than {ALONE} (at most {_MOST_OPEN_BYTES:,})"
    text = f"{held / waiting:.3g} x {EVENT} (at most {_MOST_HELD_TIMES:g})"
    return [
        Row(
            part=PART,
            what="memory of an open WebSocket, the server's own apart",
            unit="B",
            ours=gate,
            peers=(plain,),
            floor=bare,
            verdicts=(Verdict(over, more <= _MOST_OPEN_BYTES),),
        ),
        Row(
            part=PART,
            what="memory of a held WebSocket, the server's own apart",
            unit="B",
            ours=figure(GATE, held),
            floor=figure(EVENT, waiting),
            verdicts=(Verdict(text, held <= waiting * _MOST_HELD_TIMES),),
        ),
    ]
