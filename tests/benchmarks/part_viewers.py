"""The status page with very many viewers: one change reaches all of them.

In one process and without a network; a viewer has it when the server was given it to send.
"""

import asyncio
import gc
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator

from orchestrator import Stage
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.web import web_app
from tests.asgi.gate_support import EMPTY, Startup, http_scope
from tests.benchmarks.measure import interleaved
from tests.benchmarks.rows import Row, at_most

PART = "viewers"
VIEWERS, ROUNDS = 500, 7
PAGE, QUEUES = "the page", "a stream with a queue for each, by hand"

_SETTLE_SECONDS = 0.3
"""In which all have what is so at first."""

_MOST_OF_QUEUES = 25.0


class Viewers:
    """All browsers; knows when each was sent what it waits for."""

    def __init__(self, number: int, sign: bytes) -> None:
        self._number, self._sign = number, sign
        self._seen = 0
        self.connected = 0
        self.looking = False
        self.all = asyncio.Event()

    async def watch(self, app: ASGIApp) -> None:
        """One of them."""
        seen = asked = connected = False

        async def send(message: Message) -> None:
            nonlocal seen, connected
            if message["type"] == "http.response.body" and not connected:
                connected = True
                self.connected += 1
            if self.looking and not seen and self._sign in message.get("body", b""):
                seen = True
                self._seen += 1
                if self._seen == self._number:
                    self.all.set()

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return EMPTY
            await asyncio.get_running_loop().create_future()
            raise AssertionError("it is never resolved")

        await app(http_scope("/events"), receive, send)


async def _told(
    app: ASGIApp, number: int, sign: bytes, change: Callable[[], Awaitable[None]]
) -> float:
    """Milliseconds from a change until all viewers have it."""
    viewers = Viewers(number, sign)
    tasks = [asyncio.create_task(viewers.watch(app)) for _ in range(number)]
    while viewers.connected < number:
        await asyncio.sleep(0.01)  # they have no event for it
    await asyncio.sleep(_SETTLE_SECONDS)
    gc.collect()
    viewers.looking = True
    began = time.perf_counter()
    await change()
    await viewers.all.wait()
    took = (time.perf_counter() - began) * 1e3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return took


async def page(number: int) -> float:
    """A change of stage, on the page."""
    startup = Startup()
    app = web_app(startup, max_streams=number)
    async with startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)

        async def fall() -> None:
            startup.lose()

        return await _told(app, number, b'"stage":"degraded"', fall)


async def queues(number: int) -> float:
    """A text of the same size, with the least that a page of one's own would do."""
    waiting: list[asyncio.Queue[str]] = []

    async def stream(_: Scope, __: Receive, send: Send) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        waiting.append(queue)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        while True:
            body = f"event: state\ndata: {await queue.get()}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})

    async def change() -> None:
        text = json.dumps({"stage": "degraded", "conditions": ["x" * 20] * 40})
        for queue in waiting:
            queue.put_nowait(text)

    return await _told(stream, number, b'"degraded"', change)


def measure(viewers: int = VIEWERS, rounds: int = ROUNDS) -> Iterator[Row]:
    """The row."""
    logging.getLogger("orchestrator").setLevel(logging.ERROR)  # each fall is a line
    figures = interleaved(
        {
            PAGE: lambda: asyncio.run(page(viewers)),
            QUEUES: lambda: asyncio.run(queues(viewers)),
        },
        rounds=rounds,
    )
    ours, floor = figures.values()
    yield Row(
        part=PART,
        what=f"a change of stage reaches all of {viewers} viewers of the page",
        unit="ms",
        ours=ours,
        floor=floor,
        verdicts=(at_most(ours, _MOST_OF_QUEUES, floor),),
    )
