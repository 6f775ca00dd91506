"""The page of a fleet in a real browser, beside the table and the gate for deploys."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from orchestrator.fleet import fleet_app
from states import Failure, FailureKind, Stage
from tests.asgi.gate_support import serving
from tests.browser.devtools import Browser, Page, find_chromium
from tests.fleet.scripted_instance import ScriptedInstance
from tests.redis_server import RedisServer

PROGRAM = find_chromium()
pytestmark = [
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium: install it, or set CHROMIUM"),
]
ROOT = Path(__file__).parents[2]
COUNT = "document.querySelector('#count').textContent"
ROWS = "[...document.querySelectorAll('.row')]"
KNOWN = """Object.fromEntries([...rows.values()].map((one) =>
    [one.name, one.stage + ' ' + one.presence]))"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def watched(browser: Browser, server: RedisServer) -> AsyncGenerator[Page]:
    """A page that watches the fleet under a real uvicorn."""
    app = Starlette(routes=[Mount("/fleet", fleet_app(server.url, "chat", title="Chat"))])
    async with serving(app) as port:
        page = await browser.open(f"http://127.0.0.1:{port}/fleet")
        try:
            yield page
        finally:
            await page.close()
    assert page.errors == []
    own = f"http://127.0.0.1:{port}/fleet"
    assert [url for url in page.requests if not url.startswith((own, "data:"))] == []


def fleet_command(server: RedisServer, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "fleet", server.url, "--service", "chat", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )


def table_until(server: RedisServer, expected: dict[str, str]) -> list[str]:
    """Wait until the command says this of each instance; return the names in its first order."""
    command = [sys.executable, "-m", "orchestrator", "fleet", server.url, "--service", "chat"]
    known: dict[str, str] = {}
    first: list[str] = []
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, cwd=ROOT) as process:
        late = threading.Timer(60.0, process.kill)
        late.start()
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)["data"]
            told = event.get("instances") or [one for one in [event.get("instance")] if one]
            first = first or [one["name"] for one in told]
            known |= {one["name"]: f"{one['stage']} {one['presence']}" for one in told}
            if known == expected:
                break
        process.kill()
        late.cancel()
    assert known == expected
    return first


async def gate(server: RedisServer, wanted: int, version: str, seconds: int) -> int:
    """The exit status of the gate for deploys."""
    options = ("--until-ready", str(wanted), "--version", version, "--timeout", str(seconds))
    done = await asyncio.to_thread(fleet_command, server, *options, "--for", "1")
    return done.returncode


async def test_twenty_real_instances_are_shown_as_they_are_everywhere(
    browser: Browser, server: RedisServer
) -> None:
    names = [
        [f"fine-{number}" for number in range(8)],
        [f"late-{number}" for number in range(2)] + [f"degraded-{number}" for number in range(2)],
        [f"frozen-{number}" for number in range(4)],
        [f"killed-{number}" for number in range(4)],
    ]
    expected = {
        **dict.fromkeys(names[0], "ready alive"),
        **dict.fromkeys(names[1][:2], "grace alive"),
        **dict.fromkeys(names[1][2:], "degraded alive"),
        **dict.fromkeys([*names[2], *names[3]], "ready silent"),
    }
    with ExitStack() as ended:
        processes = []
        for group in names:
            command = [sys.executable, "-m", "tests.fleet.fleet_process", str(server.port), *group]
            process = subprocess.Popen(command, cwd=ROOT)
            ended.callback(process.wait)
            ended.callback(process.kill)
            processes.append(process)
        async with watched(browser, server) as page:
            await page.until(f"{COUNT} === '16 of 20 serve'")
            assert await gate(server, 8, "2", 60) == 0
            processes[2].send_signal(signal.SIGSTOP)
            processes[3].kill()
            for name, what in expected.items():
                await page.until(f"({KNOWN})['{name}'] === '{what}'")
            await page.until(f"{COUNT} === '8 of 20 serve'")

            assert await page.ask(KNOWN) == expected
            told = await asyncio.to_thread(table_until, server, expected)
            # Each reader has its own moment at which an instance went silent.
            on_top = await page.ask("sorted.slice(0, 4).map((one) => one.name)")
            assert told[:4] == on_top
            # Two of version 2 are frozen or killed each: only four of them are left.
            assert await gate(server, 5, "2", 4) == 124
            assert await gate(server, 4, "2", 60) == 0

            processes[2].send_signal(signal.SIGCONT)
            await page.until(f"({KNOWN})['frozen-0'] === 'ready alive'")
            await page.until(f"{COUNT} === '12 of 20 serve'")

            await asyncio.to_thread(server.stop)
            await page.until("!document.querySelector('#old').hidden")
            await page.until(f"{COUNT} === '20 instances'")
            await asyncio.to_thread(server.start)
            await page.until(f"{COUNT} === '12 of 16 serve' || {COUNT} === '12 of 20 serve'")


def thousand(server: RedisServer) -> None:
    refused = "redis at 10.0.0.7:6379 refused the connection"
    for number in range(1_000):
        one = ScriptedInstance(server.port, f"chat-{number:04}", lease_seconds=600.0)
        if number == 500:
            failure = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", refused)
            one.say(failures_in_row=7, failure=failure, waits_for=("Redis to answer",))
        one.be(Stage.DEGRADED if number == 500 else Stage.READY)


async def test_a_thousand_rows_can_be_scrolled_filtered_and_walked_with_keys(
    browser: Browser, server: RedisServer
) -> None:
    await asyncio.to_thread(thousand, server)
    async with watched(browser, server) as page:
        await page.until(f"{COUNT} === '999 of 1000 serve'")
        drawn = f"{ROWS}.length"
        assert 5 < await page.ask(drawn) < 60
        assert await page.ask(f"{ROWS}[0].querySelector('.name').textContent") == "chat-0500"
        await page.ask("(document.querySelector('#view').scrollTop = 1e9, 1)")
        await page.until(f"{ROWS}.some((one) => one.textContent.includes('chat-0999'))")
        assert await page.ask(drawn) < 60

        await page.ask("(document.querySelector('#view').focus(), 1)")
        for key, code in (("Home", 36), ("ArrowDown", 40), ("ArrowDown", 40)):
            await page.press(key, code)
        await page.until("document.querySelector('#one-title').textContent === 'chat-0001'")
        active = (
            "document.getElementById(document.querySelector('#view').ariaActiveDescendantElement"
        )
        await page.until(f"{active}.id).ariaSelected === 'true'")
        heard = [node for node in await page.accessible() if node["role"]["value"] == "option"]
        assert any("chat-0001" in node["name"]["value"] for node in heard)

        await page.ask(
            "(document.querySelector('#filter').value = 'REFUSED',"
            " document.querySelector('#filter').dispatchEvent(new Event('input')), 1)"
        )
        await page.until(f"{drawn} === 1")
        assert await page.text("#shown") == "1 of 1000 are shown"


async def test_it_fits_a_phone(browser: Browser, server: RedisServer) -> None:
    ScriptedInstance(server.port, "chat-with-a-name-that-is-far-too-long" * 3).be(Stage.READY)
    async with watched(browser, server) as page:
        await page.emulate(width=360, height=800)
        await page.until(f"{COUNT} === '1 of 1 serve'")
        assert await page.ask("document.documentElement.scrollWidth") <= 360
