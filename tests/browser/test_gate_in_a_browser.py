"""What a real Chromium sees of the gate, and the loop of the documentation in it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator, Stage
from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import App, Refused, Startup, serving, until
from tests.browser.devtools import PATIENCE_SECONDS, Page, chromium, find_chromium

pytestmark = [
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed"),
]

LOOP = Path(__file__).parents[2] / "docs" / "examples" / "reconnect.js"

# Notes all that a script is told of one WebSocket.
WATCH = """
window.seen = [];
window.socket = new WebSocket(`ws://${location.host}/ws`);
for (const name of ["open", "error"]) socket.addEventListener(name, () => seen.push(name));
socket.addEventListener("message", (event) => seen.push(event.data));
window.ended = new Promise((resolve) => socket.addEventListener("close", (event) => {
  seen.push(`close ${event.code} ${event.wasClean ? "clean" : "unclean"}`);
  resolve(seen);
}));
null
"""

# The waits are shortened, and noted as they would have been.
HURRY = """
window.answers = []; window.waits = [];
const setTimer = window.setTimeout;
window.setTimeout = (run, milliseconds) => { waits.push(milliseconds); return setTimer(run, 5); };
window.loop = stayConnected(`ws://${location.host}/ws`, {
  firstMs: 1,
  onopen: (socket) => socket.send("ping"),
  onmessage: (text) => answers.push(text),
});
null
"""


def with_page(app: ASGIApp) -> ASGIApp:
    """The same, and an empty page at `/`, so that the browser has an origin."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<!doctype html><title>t</title>"})

    return both


@asynccontextmanager
async def a_page(
    startup: Orchestrator,
    **options: Any,  # the gate's own
) -> AsyncGenerator[tuple[Page, ReadinessGate]]:
    """A page of the service, whose WebSockets are behind the gate.

    It holds for longer than the browser of a busy machine takes to answer.
    """
    options = {"hold_seconds": 2 * PATIENCE_SECONDS} | options
    gate = ReadinessGate(
        with_page(App()),
        startup,
        manage_lifespan=True,
        health=True,
        bypass=["/", "/favicon.ico"],
        **options,
    )
    program = find_chromium()
    assert program is not None
    async with serving(gate) as port, chromium(program) as browser:
        page = await browser.open(f"http://127.0.0.1:{port}/")
        yield page, gate
        await page.close()


async def test_held_admitted_and_closed_when_degraded() -> None:
    startup = Startup()
    async with a_page(startup, close_on_degrade_seconds=0.05) as (page, gate):
        await page.ask(WATCH)
        await until(lambda: gate.held == 1)
        assert await page.ask("[socket.readyState, seen.length]") == [0, 0]  # connecting, and quiet
        startup.make_ready()
        await until(lambda: gate.counts.admitted == 1)
        startup.lose()
        assert await page.ask("ended") == ["open", "close 1013 clean"]
        await page.ask(WATCH)
        assert await page.ask("ended") == ["error", "close 1006 unclean"]  # degraded: refused
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        await page.ask(WATCH)
        answered = "new Promise((done) => { socket.onmessage = (event) => done(event.data);"
        answered += " const ping = () => socket.send('ping');"
        answered += " if (socket.readyState === 1) ping(); else socket.onopen = ping; })"
        assert await page.ask(answered) == "pong"


async def test_accepted_and_closed() -> None:
    startup = Refused(permanent=True)
    async with a_page(startup, accept_then_close=True) as (page, _):
        await startup.wait_for(Stage.DEGRADED)
        await page.ask(WATCH)
        assert await page.ask("ended") == ["open", "close 1013 clean"]


async def test_the_loop_goes_through_an_outage_by_itself() -> None:
    startup = Startup()
    async with a_page(startup, close_on_degrade_seconds=0.05, hold_seconds=0.2) as (page, gate):
        await page.ask(LOOP.read_text(encoding="utf-8") + "; null")
        await page.ask(HURRY)
        await until(lambda: gate.counts.timed_out >= 2)
        early = await page.ask("waits")
        startup.make_ready()
        await until(lambda: gate.counts.admitted >= 1)
        startup.lose()
        await until(lambda: gate.counts.refused >= 2)
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        await until(lambda: gate.held == 0)
        answered = (
            "new Promise((done) => setInterval(() => answers.length > 1 && done(answers), 5))"
        )
        assert (await page.ask(answered))[:2] == ["pong", "pong"]
        # In its start `/readyz` told when to come back: 1 to 3 s, and then some jitter.
        assert all(1000 <= wait < 4000 for wait in early)
        await page.ask("loop.stop()")
        assert not page.errors
