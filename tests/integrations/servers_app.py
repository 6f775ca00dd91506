"""The application that the server matrix runs: two gates, steered from outside over HTTP.

It is loaded by each server in a process of its own, so what a test must know of it, it asks for:
requests to `/control/...` pass beside the gates and answer once what they ask for is the case.
"""

import json
from collections.abc import Callable
from functools import cached_property

import anyio

from orchestrator import Orchestrator, Policy, Stage
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ScriptedProbe

HOLD_SECONDS = 8.0
"""Longer than any server takes to stop, so that waiting for the limit shows."""

PATIENCE_SECONDS = 2.0
"""How long a server may take to pass on that a client has left."""

DRAIN = Policy(drain_announce_seconds=1.5, drain_close_seconds=0.5)

startup = Orchestrator(ScriptedProbe(), conditions=["go"], policy=DRAIN)
never = Orchestrator(ScriptedProbe(), conditions=["go"], policy=DRAIN)
"""It never becomes ready: whoever asks for `/never` is held, whatever `startup` does."""


class Slow:
    """A request that is inside until it is told to finish, and then takes its time."""

    @cached_property
    def inside(self) -> anyio.Event:
        return anyio.Event()  # not before there is an event loop

    @cached_property
    def may_finish(self) -> anyio.Event:
        return anyio.Event()


slow = Slow()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo WebSockets; `/crash` raises after the accept, `/crash-early` before it."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here; the gates have one")
    if scope["type"] == "http":
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/slow":
            slow.inside.set()
            await slow.may_finish.wait()
            await anyio.sleep(0.6)
        answer = {"state": "startup" in (scope.get("state") or {}), "body": body.decode()}
        await respond(send, answer)
        return
    await receive()
    if scope["path"] == "/crash-early":
        raise RuntimeError("a crash that was ordered")
    await send({"type": "websocket.accept"})
    if scope["path"] == "/crash":
        raise RuntimeError("a crash that was ordered")
    while (await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": "pong"})


async def respond(send: Send, answer: dict[str, object]) -> None:
    body = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


gate = ReadinessGate(
    application,
    startup,
    manage_lifespan=True,
    hold_seconds=20,
    close_on_degrade_seconds=0.05,
)
never_gate = ReadinessGate(gate, never, manage_lifespan=True, hold_seconds=HOLD_SECONDS)


async def until(what: Callable[[], bool]) -> bool:
    with anyio.move_on_after(PATIENCE_SECONDS):
        while not what():  # neither gate nor counts have an event for this
            await anyio.sleep(0.002)
    return what()


async def control(order: str, send: Send) -> None:
    """Do what the path says, and answer when it is the case."""
    name, _, argument = order.partition("/")
    done = True
    if name == "ready":
        startup.condition("go").set(True)
        await startup.wait_for(Stage.READY)
    elif name == "degraded":
        startup.condition("go").set(False)
        await startup.wait_for(Stage.DEGRADED)
    elif name == "held":
        done = await until(lambda: gate.held == int(argument))
    elif name == "never-held":
        done = await until(lambda: never_gate.held == int(argument))
    elif name == "finish-slowly":
        await slow.inside.wait()
        slow.may_finish.set()
    closes = {str(code): number for code, number in gate.closes.items()}
    await respond(send, {"done": done, "closes": closes})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Choose the gate by the path."""
    path = scope.get("path", "")
    if path.startswith("/control/"):
        await control(path.removeprefix("/control/"), send)
    elif scope["type"] == "lifespan" or path == "/never":
        await never_gate(scope, receive, send)
    else:
        await gate(scope, receive, send)
