"""The demo's service: a process of its own, so that its event loop and its start are its own.

It is started by `service_process`, with its options as JSON. It reports to standard output, one
JSON line each, and ends when its standard input does.
"""

import asyncio
import contextlib
import gc
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

import uvicorn

from orchestrator.cli.demo.apps import SendReport, Service, make_service
from orchestrator.cli.demo.embedded_redis import HOST
from orchestrator.cli.demo.reports import DemoReport, Listening, ServiceOptions, encode

_BEAT_SECONDS = 0.005
_STATUS_SECONDS = 0.05
_LAST_WORDS_SECONDS = 15.0
"""How long the end may take: the drain, the server's own shutdown, tasks and spans take 7 s at most
together, and longer on a busy machine."""

_SHUTDOWN_SECONDS = 1


class Server(uvicorn.Server):
    """Uvicorn, telling when its port is open."""

    def __init__(self, config: uvicorn.Config, send: SendReport) -> None:
        super().__init__(config)
        self._send = send

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            port: int = self.servers[0].sockets[0].getsockname()[1]
            self._send(Listening(time.monotonic(), port))


class Heartbeat:
    """Measures for how long the event loop runs nothing: how late its own short sleeps end."""

    def __init__(self) -> None:
        self.longest_stall_seconds = 0.0

    async def beat(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)
            self.longest_stall_seconds = max(self.longest_stall_seconds, time.monotonic() - due)


async def _tell_status(service: Service, heartbeat: Heartbeat, send: SendReport) -> None:
    while True:
        send(service.status(heartbeat.longest_stall_seconds))
        await asyncio.sleep(_STATUS_SECONDS)


async def _serve(service: Service, server: Server, send: SendReport) -> None:
    heartbeat = Heartbeat()
    beside = [
        asyncio.create_task(heartbeat.beat()),
        asyncio.create_task(_tell_status(service, heartbeat, send)),
    ]
    await asyncio.sleep(0)  # both have begun: nothing of the start-up goes unmeasured
    ends = asyncio.Event()

    async def end() -> None:
        await ends.wait()
        await service.drain()
        server.should_exit = True

    beside.append(asyncio.create_task(end()))
    _when_input_ends(asyncio.get_running_loop(), ends.set)
    try:
        await server.serve()
    finally:
        for task in beside:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        send(service.status(heartbeat.longest_stall_seconds))


def _when_input_ends(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Stop when the demo closes its end of the pipe, or is gone; even with a blocked event loop."""

    def watch() -> None:
        # Not sys.stdin: a daemon thread inside of its lock would crash the end of the process.
        while os.read(0, 1024):
            pass
        with contextlib.suppress(RuntimeError):  # the loop may have ended by itself
            loop.call_soon_threadsafe(stop)
        time.sleep(_LAST_WORDS_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end of input", daemon=True).start()


def _reports_to(descriptor: int) -> SendReport:
    def send(report: DemoReport) -> None:
        # Once the demo is gone, no one wants to know; the end of the input stops the service.
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, encode(report))

    return send


def main() -> None:
    """Run the service until the end of the standard input."""
    options = ServiceOptions(**json.loads(sys.argv[1]))
    reports = os.dup(1)
    os.dup2(2, 1)  # what anything prints must not get between the reports
    send = _reports_to(reports)
    service = make_service(options, send)
    config = uvicorn.Config(
        service.app,
        host=HOST,
        port=options.port,
        # The loop whose stalls are measured is the standard library's, whatever is installed.
        loop="asyncio",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    config.load()  # its imports, before the event loop runs
    # What was imported lives for ever: without it each full collection is some 20 ms shorter.
    gc.collect()
    gc.freeze()
    asyncio.run(_serve(service, Server(config, send), send))
    service.close()
