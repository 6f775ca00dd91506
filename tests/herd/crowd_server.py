"""A gated service on a real uvicorn that a crowd comes back to: the server's process.

`python -m tests.herd.crowd_server SLOTS WORK_SECONDS LINE` prints its port. With the next line of
standard input it becomes ready, and prints when, in monotonic seconds; with the one after it prints
as JSON what it saw. LINE is `line`, or `drawn` for a gate that draws 1 to 3 s for everybody.
"""

import asyncio
import json
import sys
import time
from collections import Counter

import anyio
import uvicorn

from orchestrator._gate.return_line import ReturnLine
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import Server, Startup


class Working:
    """Takes a while for each WebSocket's first message, and answers."""

    def __init__(self, work_seconds: float) -> None:
        self._work_seconds = work_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await asyncio.sleep(self._work_seconds)
        await send({"type": "websocket.send", "text": "answer"})
        await receive()


class Seen:
    """Counts who comes, before the gate."""

    def __init__(self, app: ReadinessGate) -> None:
        self._app = app
        self.came: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self.came[int(time.monotonic())] += 1
        await self._app(scope, receive, send)


async def main(slots: int, work_seconds: float) -> None:
    """Serve one crowd."""
    startup = Startup()
    gate = ReadinessGate(
        Working(work_seconds), startup, manage_lifespan=True, release_batch=slots, hold_seconds=10
    )
    seen = Seen(gate)
    config = uvicorn.Config(
        seen, port=0, backlog=4096, log_level="critical", lifespan="on", timeout_graceful_shutdown=1
    )
    server = Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await server.up.wait()
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        ready_at = time.monotonic()
        startup.make_ready()
        print(ready_at, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        since = [count for second, count in seen.came.items() if second > ready_at]
        told = {
            "per_second": gate._admission.turnstile.rate.per_second,
            "most_in_a_second": max(since, default=0),
            "came": sum(seen.came.values()),
        }
        print(json.dumps(told), flush=True)
        server.should_exit = True


def draw_for_all() -> None:
    """Let no gate of this process have a line."""
    ReturnLine.seconds = (  # type: ignore[method-assign]  # as it was before there was one
        lambda self, least, most: self._random.randint(least, most)
    )


if __name__ == "__main__":
    if sys.argv[3] == "drawn":
        draw_for_all()
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
