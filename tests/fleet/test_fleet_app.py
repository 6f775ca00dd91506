"""The page of a fleet, on a real Redis and on both backends: its addresses, its stream, its end."""

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import redis
from anyio import to_thread

from orchestrator import Orchestrator, Policy
from orchestrator._http.asgi_types import ASGIApp
from orchestrator.fleet import PresenceVerdict, _fleet_app, _shared_follow, fleet_app
from orchestrator.fleet._follower import Follower
from orchestrator.fleet._wire import fleet_keys
from orchestrator.testing import ScriptedProbe
from orchestrator.web._page import render
from states import Stage
from tests.asgi.gate_support import until
from tests.fleet.scripted_instance import ScriptedInstance
from tests.redis_server import RedisServer, free_port
from tests.web.watching import Watcher, ask, watching

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def started() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(started: RedisServer) -> RedisServer:
    with redis.Redis(port=started.port) as client:
        client.flushall()
    return started


def an_app(server: RedisServer, **options: Any) -> ASGIApp:  # whatever `fleet_app` takes
    return fleet_app(f"redis://127.0.0.1:{server.port}", "chat", **options)


async def state_of(app: ASGIApp) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((await ask(app, "/state")).body)
    return state


def names(state: dict[str, Any]) -> list[str]:
    return [one["name"] for one in state["instances"]]


class Shown:
    """What a browser has of the fleet after all that it was sent."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for event in self._watcher.named("fleet"):
            rows |= {row["name"]: row for row in event.data["rows"]}
        return rows

    @property
    def last(self) -> dict[str, Any]:
        return self._watcher.named("fleet")[-1].data


async def test_the_state_says_who_is_there(server: RedisServer) -> None:
    ScriptedInstance(server.port, "chat-b").be(Stage.READY)
    ScriptedInstance(server.port, "chat-a", version="2").be(Stage.DEGRADED)
    state = await state_of(an_app(server))
    assert names(state) == ["chat-a", "chat-b"]  # trouble first
    assert state["contact"]["reached"]
    assert (state["service"], state["count"]) == ("chat", 2)
    assert state["by_stage"] == {"ready": 1, "degraded": 1}
    assert state["by_version"] == {"1": {"ready": 1}, "2": {"degraded": 1}}


async def test_a_browser_gets_the_rows_and_then_what_changes(server: RedisServer) -> None:
    ready = ScriptedInstance(server.port, "chat-a").be(Stage.READY)
    late = ScriptedInstance(server.port, "chat-b").be(Stage.GRACE)
    async with watching(an_app(server)) as watcher:
        shown = Shown(watcher)
        await until(lambda: {*shown.rows} == {"chat-a", "chat-b"})
        sent_before = len(watcher.named("fleet"))
        await to_thread.run_sync(late.be, Stage.READY)
        await until(lambda: shown.rows["chat-b"]["stage"] == "ready")
        changed = [event.data["rows"] for event in watcher.named("fleet")[sent_before:]]
        assert {row["name"] for rows in changed for row in rows} == {"chat-b"}
        await until(lambda: bool(watcher.named("news")))
        news = watcher.named("news")[0].data
        assert (news["news"], news["names"], news["current"]) == ("change", ["chat-b"], "ready")
        await to_thread.run_sync(ready.leave)
        await until(lambda: shown.rows["chat-a"]["presence"] == "left")
        assert shown.last["totals"]["count"] == 1


async def test_a_lost_redis_is_said_and_what_is_shown_is_unknown() -> None:
    with RedisServer() as server:
        ScriptedInstance(server.port, "chat-a", lease_seconds=600).be(Stage.READY)
        async with watching(an_app(server)) as watcher:
            shown = Shown(watcher)
            await until(lambda: "chat-a" in shown.rows)
            await to_thread.run_sync(server.stop)
            await until(lambda: not shown.last["contact"]["reached"])
            await until(lambda: shown.rows["chat-a"]["presence"] == "unknown")
            assert "refused" in shown.last["contact"]["reason"]


async def test_without_redis_the_page_is_there_and_says_why() -> None:
    app = fleet_app(f"redis://127.0.0.1:{free_port()}", "chat")
    state = await state_of(app)
    assert not state["contact"]["reached"]
    assert "refused" in state["contact"]["reason"]
    page = await ask(app, "/")
    assert page.status == 200
    assert b"all instances" in page.body


async def test_many_browsers_share_one_reader(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []

    def counted(*given: Any, **more: Any) -> object:  # whatever the follower takes
        begun.append(given)
        return Follower(*given, **more)

    monkeypatch.setattr(_shared_follow, "Follower", counted)
    app = an_app(server)
    async with watching(app), watching(app):
        await state_of(app)
    await state_of(app)  # it lingers
    assert len(begun) == 1


async def test_the_reader_ends_when_nobody_has_watched_for_a_while(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shared_follow, "LINGER_SECONDS", 0.0)
    app = an_app(server)
    async with watching(app) as watcher:
        await until(lambda: bool(watcher.named("fleet")))
        assert readers() >= 1
    await until(lambda: readers() == 0)


async def test_an_empty_fleet_is_shown_as_soon_as_redis_has_answered(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fleet_app, "_FIRST_SECONDS", 60.0)
    with anyio.fail_after(20.0):
        state = await state_of(an_app(server))
    assert state["contact"]["reached"]
    assert state["instances"] == []


async def test_whoever_comes_after_the_reader_has_ended_sees_the_fleet_of_now(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shared_follow, "LINGER_SECONDS", 0.0)
    app = an_app(server)
    gone = ScriptedInstance(server.port, "gone").be(Stage.READY)
    stays = ScriptedInstance(server.port, "stays").be(Stage.READY)
    assert names(await state_of(app)) == ["gone", "stays"]
    await until(lambda: readers() == 0)
    with redis.Redis(port=server.port) as client:
        client.hdel(fleet_keys("chat").instances, gone.incarnation)
    stays.be(Stage.DEGRADED)
    now = await state_of(app)
    assert [(one["name"], one["stage"]) for one in now["instances"]] == [("stays", "degraded")]


async def test_an_old_view_is_not_shown_when_redis_is_away_for_the_next_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_shared_follow, "LINGER_SECONDS", 0.0)
    with RedisServer() as own:
        app = an_app(own)
        ScriptedInstance(own.port).be(Stage.READY)
        assert names(await state_of(app)) == ["one"]
        await until(lambda: readers() == 0)
    now = await state_of(app)
    assert not now["contact"]["reached"]
    assert now["instances"] == []


def readers() -> int:
    return sum(thread.name == "fleet-reader" for thread in threading.enumerate())


async def test_one_browser_too_many_is_refused(server: RedisServer) -> None:
    app = an_app(server, max_streams=1)
    async with watching(app):
        assert (await ask(app, "/events")).status == 503


async def test_a_drain_of_the_process_ends_the_streams(server: RedisServer) -> None:
    startup = Orchestrator(ScriptedProbe(), policy=Policy(grace_seconds=0.0))
    app = an_app(server, startup=startup)
    async with startup, watching(app) as watcher:
        await until(lambda: bool(watcher.named("fleet")))
        await startup.drain()
        await until(lambda: bool(watcher.named("end")))
        with anyio.fail_after(10):
            await watcher.caller.done.wait()


async def test_pages_of_other_sites_cannot_read_it(server: RedisServer) -> None:
    app = an_app(server, allowed_hosts=["fleet.example"])
    assert (await ask(app, "/state", host="evil.example")).status == 421
    assert (await ask(app, "/state", host="fleet.example")).status == 200
    foreign = await ask(app, "/state", host="fleet.example", sec_fetch_site="cross-site")
    assert foreign.status == 403
    assert (await ask(app, "/", "POST", host="fleet.example")).status == 405


async def test_a_forged_entry_reaches_no_browser(server: RedisServer) -> None:
    ScriptedInstance(server.port, "chat-a").be(Stage.READY)
    with redis.Redis(port=server.port) as client:
        client.hset(fleet_keys("chat").instances, "<script>", '9 {"v":1,"instance":"<script>"}')
    state = await state_of(an_app(server))
    assert names(state) == ["chat-a"]
    assert state["unreadable"] == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_request_may_have_an_event_loop_of_its_own(server: RedisServer, backend: str) -> None:
    ScriptedInstance(server.port, "chat-a").be(Stage.READY)
    app = an_app(server)
    for _ in range(2):  # as test clients have it
        assert names(anyio.run(state_of, app, backend=backend)) == ["chat-a"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"service": "a b"}, "the service's name must be"),
        ({"url": "redis://host:port"}, "the Redis URL is malformed"),
        ({"max_streams": 0}, "max_streams is 0"),
    ],
)
def test_what_it_cannot_use_is_refused_when_it_is_made(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fleet_app(**{"url": "redis://localhost", "service": "chat"} | given)


async def test_the_title_cannot_run_anything(server: RedisServer) -> None:
    app = an_app(server, title="</title><script>alert(1)</script>")
    assert b"<script>alert" not in (await ask(app, "/")).body


def test_the_page_is_one_file_that_asks_no_other_host() -> None:
    page = render("Chat", "fleet_page.html", "orchestrator.fleet").decode()
    assert {*re.findall(r"https?://[\w./]+", page)} == {"http://www.w3.org/2000/svg"}
    assert "innerHTML =" not in page
    assert "@@" not in page
    for presence in PresenceVerdict:
        assert f"{presence}: " in page
