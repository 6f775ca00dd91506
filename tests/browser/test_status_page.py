"""The status page in a real browser: what people see, hear and can reach with their keys."""

import asyncio
import contextlib
import itertools
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from orchestrator import Check, ConditionSpec, Orchestrator, Policy, Task
from orchestrator.asgi import ReadinessGate, Workers, lifespan
from orchestrator.redis import RedisProbe
from orchestrator.testing import REFUSED, ScriptedProbe
from orchestrator.web import web_app
from tests.asgi.gate_support import App, serving
from tests.browser.devtools import PATIENCE_SECONDS, Browser, Page, find_chromium
from tests.pod.played import PlayedWorkers
from tests.redis_server import RedisServer, free_port

PROGRAM = find_chromium()
pytestmark = [
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium: install it, or set CHROMIUM"),
]

STAGE = "document.querySelector('#stage').textContent"
CURRENT = "document.querySelector('#stage-list [aria-current=step]').textContent"
LINK = "document.querySelector('#link').textContent.trim()"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@asynccontextmanager
async def watched(
    browser: Browser,
    startup: Orchestrator,
    *,
    gate: ReadinessGate | None = None,
    max_streams: int = 16,
    pod: Workers | None = None,
) -> AsyncGenerator[Page]:
    """A page that watches a service under a real uvicorn."""
    status = web_app(startup, title="Chat", gate=gate, max_streams=max_streams, pod=pod)
    app = Starlette(routes=[Mount("/startup", status)], lifespan=lifespan(startup))
    async with serving(app) as port:
        page = await browser.open(f"http://127.0.0.1:{port}/startup")
        try:
            yield page
        finally:
            await page.close()
    assert page.errors == []
    own = f"http://127.0.0.1:{port}/startup"
    assert [url for url in page.requests if not url.startswith((own, "data:"))] == []


async def rows(page: Page) -> list[list[str]]:
    """The table of what happened, oldest first."""
    cells = "[...row.cells].map(cell => cell.innerText.trim())"
    table: list[list[str]] = await page.ask(
        f"[...document.querySelectorAll('#events tr')].map(row => {cells})"
    )
    return table[::-1]


# -- a life of a service -------------------------------------------------------------------------


async def test_a_late_redis_a_kill_and_a_recovery_are_seen(
    browser: Browser, redis_server: RedisServer
) -> None:
    policy = Policy(grace_seconds=0.3, budget_seconds=120.0)
    startup = Orchestrator(RedisProbe(redis_server.url), policy=policy, conditions=["listener"])
    gate = ReadinessGate(App(), startup)
    async with watched(browser, startup, gate=gate) as page:
        await page.until(f"{STAGE} === 'Probing Redis'")
        assert "waits for Redis to answer" in await page.text("#waits")
        await page.until("document.querySelector('#failure-text').textContent.includes('refused')")
        assert "s left of 120 s" in await page.text("#budget-text")
        # The picture grows while one looks at it.
        await page.until("document.querySelectorAll('#timeline .fail').length >= 3")

        await asyncio.to_thread(redis_server.start)
        await page.until(f"{STAGE} === 'Grace'")
        await page.until(
            "document.querySelector('#waits').textContent === 'waits for condition listener'"
        )
        startup.condition("listener").set(True, reason="subscribed")
        await page.until(f"{STAGE} === 'Ready' && {CURRENT}.startsWith('Ready: ')")
        await page.until("document.querySelector('#announce').textContent === 'Stage: Ready.'")
        await page.until("document.title === 'Ready \u00b7 Chat'")
        row = "document.querySelector('#conditions li').textContent"
        await page.until(f"{row}.includes('holds') && {row}.includes('subscribed')")
        assert await page.ask("document.querySelectorAll('#timeline .ok').length") > 0

        await asyncio.to_thread(redis_server.kill)
        await page.until(f"{STAGE} === 'Degraded'")
        await page.until("document.querySelector('#failure-title').textContent === 'Failing now'")
        await page.until("document.querySelector('#announce').textContent === 'Stage: Degraded.'")

        await asyncio.to_thread(redis_server.start)
        await page.until(f"{STAGE} === 'Ready'")
        await page.until(
            "document.querySelector('#failure-title').textContent.startsWith('Last failure')"
        )
        assert [row[1] for row in await rows(page)] == [
            "Probing Redis",
            "Grace",
            "Ready",
            "Degraded",
            "Grace",
            "Ready",
        ]
        drawn = "[...document.querySelectorAll('#timeline > g')].map(g => g.className.baseVal)"
        stages = ["booting", "probing_redis", "grace", "ready", "degraded", "grace", "ready"]
        assert await page.ask(drawn) == stages
        assert "Closed with 1011" in await page.text("#gate-list")


async def test_a_process_that_still_boots_is_one_life_with_what_follows(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe())
    app = Starlette(routes=[Mount("/startup", web_app(startup))])
    async with serving(app) as port:
        page = await browser.open(f"http://127.0.0.1:{port}/startup/")
        await page.until(f"{STAGE} === 'Booting' && {CURRENT}.startsWith('Booting')")
        assert "waits for the application" in await page.text("#waits")
        before = await page.ask("life")
        async with startup:
            await page.until(f"{STAGE} === 'Ready'")
            await page.until("document.querySelectorAll('#events tr').length === 3")
            assert await page.text("#announce") == "Stage: Ready."
            assert await page.ask("life") == pytest.approx(before, abs=0.3)
            assert page.errors == []
            await page.close()


# -- a service that goes ---------------------------------------------------------------------------


class Service:
    """The service in a process of its own, on a port that it keeps when it is started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "tests.browser.service", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2]
        )  # it returns at once
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._listens():  # another process has no event
                await asyncio.sleep(0.02)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, PATIENCE_SECONDS)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.kill()


async def test_a_service_that_goes_and_comes_back_is_told_plainly(
    browser: Browser, service: Service
) -> None:
    await service.start()
    page = await browser.open(f"http://127.0.0.1:{service.port}/startup/")
    await page.until(f"{STAGE} === 'Ready' && {LINK} === 'Live'")

    # Frozen: the connection stands, and nobody speaks.
    service.tell(signal.SIGSTOP)
    await page.until(f"{STAGE} === 'No contact'")
    assert await page.text("#since") == "The last known stage is Ready."
    assert "The service does not answer." in await page.text("#meaning")
    await page.until(
        "document.querySelector('#announce').textContent === 'The service does not answer.'"
    )
    service.tell(signal.SIGCONT)
    await page.until(f"{STAGE} === 'Ready' && {LINK} === 'Live'")

    # Stopped in good order: an open page does not keep the process alive.
    service.tell(signal.SIGTERM)
    assert await service.ended() in (0, -signal.SIGTERM)
    await page.until(f"{STAGE} === 'No contact'")
    assert "has said that it stops" in await page.text("#meaning")

    # And back, as another process with a history of its own.
    before = await page.text("#life")
    await service.start()
    await page.until(f"{STAGE} === 'Ready' && {LINK} === 'Live'")
    await page.until(f"document.querySelector('#life').textContent !== '{before}'")
    await page.until("document.querySelectorAll('#events tr').length === 3")
    assert page.errors == []
    await page.close()


async def test_who_finds_no_place_in_the_stream_asks_for_the_state(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe())
    async with watched(browser, startup, max_streams=1) as first:
        await first.until(f"{LINK} === 'Live'")
        second = await browser.open(await first.ask("location.href"))
        await second.until(f"{LINK} === 'Asking every 2 s' && {STAGE} === 'Ready'")
        await second.close()


async def test_conditions_stand_in_their_order_and_the_account_adds_up(browser: Browser) -> None:
    database = ScriptedProbe([REFUSED])
    startup = Orchestrator(
        ScriptedProbe(),
        conditions=[
            Task("listener", anyio.sleep_forever, after=["redis", "database", "vpn"]),
            ConditionSpec("billing", required=False),
            Check("database", database, after=["redis"]),
            "vpn",
        ],
    )
    shown = "[...document.querySelectorAll('#conditions li')].map(row => row.innerText)"
    async with watched(browser, startup) as page:
        await page.until("document.querySelectorAll('#steps .open').length > 0")
        assert (await page.text("#account-told")).startswith("Not ready, after ")
        await page.until(f"{shown}.join().includes('after database, vpn')")
        told = [" ".join(text.split()) for text in await page.ask(shown)]
        assert [text.split()[0] for text in told] == [
            "Redis",
            "database",
            "listener",
            "billing",
            "vpn",
        ]
        assert "also after vpn" in told[2]
        left = "[...document.querySelectorAll('#conditions li')].map(row => row.style.marginLeft)"
        assert await page.ask(left) == ["0rem", "1.25rem", "2.5rem", "0rem", "0rem"]
        database.then(None)
        startup.condition("vpn").set(True)
        await page.until(f"{STAGE} === 'Ready'")
        await page.until("document.querySelector('#account-told').textContent.startsWith('Ready')")
        bars = """[...document.querySelectorAll('#steps .critical')].map(row => {
            const bar = row.querySelector('i').style, name = row.querySelector('strong');
            return [name.textContent, parseFloat(bar.left), parseFloat(bar.width)];
        })"""
        steps = await page.ask(bars)
        assert [name for name, *_ in steps][-1] == "listener"
        for (_, left_of, width), (_, begins, _) in itertools.pairwise(steps):
            assert left_of + width == pytest.approx(begins, abs=0.01)  # without a gap
        assert sum(width for *_, width in steps) == pytest.approx(100, abs=0.01)


# -- how it looks and sounds -----------------------------------------------------------------------


LONG = "redis-at-a-very-long-name-that-has-no-place-to-break-and-goes-on-and-on.example.internal"


async def test_nothing_is_cut_off_on_a_phone(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe([REFUSED]), conditions=[LONG, "listener"])
    workers: list[dict[str, object]] = [
        {"pid": 7, "stage": "ready", "readyz": "pass", "waits_for": [], "answers": True},
        {"pid": 8, "stage": "grace", "readyz": "fail", "waits_for": [LONG], "answers": False},
        {"pid": 9, "stage": "ready", "readyz": "fail", "waits_for": [], "stuck": True},
    ]
    pod = PlayedWorkers({"expected": 4, "joined": 3, "ready": 1, "workers": workers})
    async with watched(browser, startup, pod=pod) as page:
        await page.until(f"{STAGE} === 'Probing Redis'")
        assert await page.text("#workers-told") == "1 of 4 are ready, 3 have joined."
        listed = "[...document.querySelectorAll('#workers-list li')].map(row => row.innerText)"
        told = [" ".join(text.split()) for text in await page.ask(listed)]
        assert told == ["7 Ready this one", f"8 Grace {LONG}", "9 stuck"]
        startup.condition("listener").set(False, reason=LONG)
        await page.until(f"document.querySelector('#waits').textContent.includes('({LONG})')")
        for width in (320, 360, 640, 760, 1040):
            await page.emulate(width=width, height=640)
            # Redrawn for this width: the picture of the stages and the timeline fit into the page.
            await page.until(
                f"innerWidth === {width} && document.documentElement.scrollWidth <= {width}"
            )


async def test_it_can_be_heard(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe(), conditions=["listener"])
    async with watched(browser, startup) as page:
        await page.until(f"{STAGE} === 'Grace'")
        heard = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in await page.accessible()
        ]
        assert ("heading", "Chat start-up and readiness") in heard
        for name in ("Grace", "Stages", "Timeline", "Redis", "Conditions", "What happened"):
            assert ("heading", name) in heard
            assert name == "Grace" or ("region", name) in heard
        assert ("list", "The stages and the time spent in each") in heard
        assert [name for role, name in heard if role == "image"] == [
            await page.ask("document.querySelector('#timeline-told').getAttribute('aria-label')")
        ]
        assert ("group", "What the timeline shows") in heard
        assert {role for role, _ in heard} >= {"main", "banner", "status", "columnheader"}
        live = "[...document.querySelectorAll('[aria-live], [role=status]')].map(e => e.id)"
        assert await page.ask(live) == ["link", "announce"]


async def test_the_timeline_is_one_picture_with_one_text(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe("refused x5, ok"))
    async with watched(browser, startup) as page:
        await page.until(f"{STAGE} === 'Ready'")
        await page.until("document.querySelectorAll('#timeline .fail').length > 0")
        nodes = await page.accessible()
        # Its marks would be heard one by one, and are made anew four times a second.
        assert {node["role"]["value"] for node in nodes} & {"graphics-symbol", "SvgRoot"} == set()
        (picture,) = [node for node in nodes if node["role"]["value"] == "image"]
        assert not {child["nodeId"] for child in nodes} & set(picture["childIds"])
        told = picture["name"]["value"]
        assert told.startswith("Timeline: Booting for ")
        assert ", Probing Redis for " in told
        assert ", then Ready. The table under" in told


async def test_it_can_be_used_with_keys_alone(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe())
    async with watched(browser, startup) as page:
        await page.until(f"{STAGE} === 'Ready'")
        visited = []
        for _ in range(4):
            await page.press("Tab", 9)
            focus = "(e => e.value || e.id || e.textContent)(document.activeElement)"
            visited.append(await page.ask(focus))
        assert visited == ["Skip to what happened", "recent", "history-scroll", "This as JSON"]
        await page.ask("document.querySelector('input[value=recent]').focus()")
        await page.press("ArrowRight", 39)
        assert await page.ask("document.querySelector('input:checked').value") == "all"


async def test_who_wants_no_motion_gets_none(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe())
    async with watched(browser, startup) as page:
        await page.until(f"{STAGE} === 'Ready'")
        moving = "document.getAnimations().length"
        assert await page.ask(moving) > 0
        await page.emulate(prefers_reduced_motion="reduce")
        assert await page.ask(moving) == 0


async def test_it_follows_the_colours_of_the_system(browser: Browser) -> None:
    startup = Orchestrator(ScriptedProbe())
    async with watched(browser, startup) as page:
        background = "getComputedStyle(document.body).backgroundColor"
        await page.emulate(prefers_color_scheme="light")
        light = await page.ask(background)
        await page.emulate(prefers_color_scheme="dark")
        assert await page.ask(background) != light


async def test_it_cannot_be_made_to_run_what_others_wrote(browser: Browser) -> None:
    bad = "<img src=x onerror=alert(1)>"
    startup = Orchestrator(ScriptedProbe(), conditions=[bad])
    async with watched(browser, startup) as page:
        await page.until(f"document.querySelector('#waits').textContent.includes('{bad}')")
        assert await page.ask("document.images.length") == 0
