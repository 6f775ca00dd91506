"""A server whose open WebSockets are closed: `python -m tests.benchmarks.drain_server WAY SECONDS`.

WAY is `ours`, behind the gate, whose drain closes them over so many seconds; or `alone`, where
uvicorn closes them in its own way. It prints its port and, at the end of a line on standard input,
ends the service. Then it prints how late the event loop was at worst, in seconds.
"""

import asyncio
import sys
from importlib import import_module

import anyio
import uvicorn

from orchestrator import Policy, Stage
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import Server, Startup
from tests.benchmarks.release_server import longest_stall


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and waits for the client to leave."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def main(way: str, close_seconds: float) -> None:
    """Serve until standard input says something, then end."""
    import_module("websockets")  # as a server that has had a client
    policy = Policy(
        grace_seconds=0.0,
        drain_announce_seconds=0.0,
        drain_close_seconds=close_seconds,
        drain_limit_seconds=close_seconds + 20.0,
    )
    async with Startup(policy=policy) as startup, anyio.create_task_group() as tasks:
        app = ReadinessGate(application, startup) if way == "ours" else application
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        config = uvicorn.Config(app, port=0, backlog=4096, lifespan="off", log_level="critical")
        server = Server(config)
        tasks.start_soon(server.serve)
        await server.up.wait()
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        stop = asyncio.Event()
        stall = asyncio.create_task(longest_stall(stop))
        await asyncio.sleep(0.05)
        if way == "ours":
            await startup.drain()
        server.should_exit = True
        while server.server_state.connections:  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        stop.set()
        print(await stall, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
