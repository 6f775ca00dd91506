"""The status page's addresses, called directly: on both backends and without a server."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from orchestrator import AlreadyStarted, ConditionSpec, Observer, Orchestrator, Policy, Stage
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.asgi import HEALTH_PATHS, ReadinessGate, lifespan
from orchestrator.redis import RedisProbe
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ManualClock, ScriptedProbe
from orchestrator.web import _event_stream, _history, _stream, web_app, web_mount, web_paths
from orchestrator.web._state import JsonObject, StateReader
from tests.asgi.gate_support import (
    App,
    Caller,
    http_scope,
    settled,
    until,
    websocket_scope,
)
from tests.pod.played import PlayedWorkers
from tests.web.watching import Watcher, ask, watching

pytestmark = pytest.mark.anyio


@dataclass
class Service:
    startup: Orchestrator
    probe: ScriptedProbe
    clock: ManualClock
    app: ASGIApp


@asynccontextmanager
async def a_service(  # the options are those of `web_app`
    *observers: Observer,
    title: str = "Chat",
    trace_url: str | None = None,
    max_streams: int = 16,
) -> AsyncGenerator[Service]:
    """A service whose Redis refuses, 2 s old and entered."""
    clock, probe = ManualClock(100.0, age_seconds=2.0), ScriptedProbe([REFUSED])
    startup = Orchestrator(
        probe,
        policy=Policy(grace_seconds=0.5),
        conditions=["chat-listener", ConditionSpec("index", required=False)],
        observers=observers,
        clock=clock,
    )
    app = web_app(startup, title=title, trace_url=trace_url, max_streams=max_streams)
    service = Service(startup, probe, clock, app)
    async with startup:
        await settled()
        yield service


async def state_of(service: Service) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((await ask(service.app, "/state")).body)
    return state


# -- the state -----------------------------------------------------------------------------------


async def test_the_state_while_redis_is_away() -> None:
    async with a_service() as service:
        await service.clock.advance(3)
        service.startup.condition("index").set(True, reason="loaded")
        await settled()
        await service.clock.advance(1)
        state = await state_of(service)
        assert state["stage"] == "probing_redis"
        assert state["since_seconds"] == 4.0
        assert state["waits_for"] == ["Redis to answer", "condition chat-listener"]
        assert state["attempts"] == state["failures_in_row"] == service.probe.attempts
        assert state["last_failure"] == {
            "kind": "transient",
            "error_type": "ConnectionRefusedError",
            "reason": "nothing listens there",
        }
        assert 0 <= state["next_probe_seconds"] < 1
        assert state["budget_left_seconds"] == 26.0
        assert state["loop_lag_seconds"] == 0.0
        assert state["conditions"] == {
            "chat-listener": {
                "required": True,
                "satisfied": False,
                "reason": "",
                "since_seconds": 6.0,
                "after": [],
            },
            "index": {
                "required": False,
                "satisfied": True,
                "reason": "loaded",
                "since_seconds": 1.0,
                "after": [],
            },
        }
        assert state["stage_seconds"]["booting"] == 2.0
        assert state["stage_seconds"]["probing_redis"] == 4.0
        assert state["at_unix_seconds"] - state["started_at_unix_seconds"] == pytest.approx(6.0)
        assert not {"gate", "trace_id", "trace_url"} & state.keys()


async def test_the_state_before_the_orchestrator_is_entered_and_after_it_was_left() -> None:
    startup = Orchestrator(ScriptedProbe())
    app = web_app(startup)
    before = json.loads((await ask(app, "/state")).body)
    assert (before["stage"], before["running"]) == ("booting", False)
    assert before["since_seconds"] == before["stage_seconds"]["booting"] > 0
    born = before["at_unix_seconds"] - before["since_seconds"]
    assert before["started_at_unix_seconds"] == pytest.approx(born, abs=0.01)
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=5)
    after = json.loads((await ask(app, "/state")).body)
    assert (after["stage"], after["running"]) == ("ready", False)
    assert after["started_at_unix_seconds"] == pytest.approx(
        born, abs=1
    )  # another process may run in between


async def test_a_gate_is_counted() -> None:
    clock = ManualClock()
    startup = Orchestrator(ScriptedProbe(), clock=clock)
    gate = ReadinessGate(App(), startup)
    app = web_app(startup, gate=gate)
    async with startup:
        await settled()
        await Caller(gate, http_scope()).run()
        gate.closes[1011] += 1
        state = json.loads((await ask(app, "/state")).body)
    assert state["gate"] == {
        "held": 0,
        "held_so_far": 0,
        "admitted": 1,
        "refused": 0,
        "left": 0,
        "overflow": 0,
        "timed_out": 0,
        "closes": {"1011": 1},
    }


class Tracer(Observer):
    trace_id: str | None = None


async def test_the_trace_is_linked_once_it_is_known() -> None:
    tracer = Tracer()
    async with a_service(tracer, trace_url="https://tempo.example/{trace_id}?q={a}") as service:
        assert "trace_id" not in await state_of(service)
        tracer.trace_id = "5b8aa5a2d2c872e8321cf37308d69df2"
        state = await state_of(service)
        assert state["trace_id"] == tracer.trace_id
        assert state["trace_url"] == f"https://tempo.example/{tracer.trace_id}?q={{a}}"


# -- the stream ----------------------------------------------------------------------------------


async def test_the_stream_tells_what_was_and_what_comes() -> None:
    async with a_service() as service:
        await service.clock.advance(1)
        async with watching(service.app) as watcher:
            assert watcher.caller.headers["content-type"].startswith("text/event-stream")
            assert [event.data["current"] for event in watcher.named("stage")] == ["probing_redis"]
            assert len(watcher.named("attempt")) == service.probe.attempts
            service.probe.then(None)
            service.startup.condition("chat-listener").set(True)
            await service.clock.advance(1)
            await until(lambda: len(watcher.named("stage")) == 3)
            first, second, third = watcher.named("stage")
            assert [first.number, second.number, third.number] == ["1", "2", "3"]
            assert first.data == {
                "sequence": 1,
                "previous": "booting",
                "current": "probing_redis",
                "cause": "the process is set up",
                "at_unix_seconds": first.data["at_unix_seconds"],
                "elapsed_seconds": 2.0,
            }
            assert third.data["current"] == "ready"
            await until(lambda: watcher.named("state")[-1].data["stage"] == "ready")
            answered = [event.data for event in watcher.named("attempt") if event.data["ok"]]
            assert answered
            assert [event.data["number"] for event in watcher.named("attempt")] == list(
                range(1, service.probe.attempts + 1)
            )


async def test_each_attempt_says_how_it_ended() -> None:
    async with a_service() as service, watching(service.app) as watcher:
        data = watcher.named("attempt")[0].data
        assert data == {
            "number": 1,
            "at_unix_seconds": data["at_unix_seconds"],
            "latency_seconds": 0.0,
            "ok": False,
            "kind": "transient",
            "error_type": "ConnectionRefusedError",
            "reason": "nothing listens there",
        }


async def test_the_state_comes_again_when_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "TICK_SECONDS", 0.01)
    async with a_service() as service, watching(service.app) as watcher:
        await until(lambda: len(watcher.named("state")) >= 3)
        assert len(watcher.named("stage")) == 1


async def test_a_condition_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "TICK_SECONDS", 1000.0)
    async with a_service() as service, watching(service.app) as watcher:
        service.startup.condition("index").set(False, reason="40 %")
        await until(lambda: len(watcher.named("state")) == 2)
        assert watcher.named("state")[-1].data["conditions"]["index"]["reason"] == "40 %"


async def test_a_client_that_returns_is_told_only_what_it_has_not_seen() -> None:
    async with a_service() as service:
        service.probe.then(None)
        service.startup.condition("chat-listener").set(True)
        await service.clock.advance(1)
        async with watching(service.app, last_event_id="2") as watcher:
            assert [event.data["current"] for event in watcher.named("stage")] == ["ready"]


@pytest.mark.parametrize("number", ["99", "-1", "x", "1" * 400])
async def test_a_number_of_another_life_means_nothing(number: str) -> None:
    async with a_service() as service, watching(service.app, last_event_id=number) as watcher:
        assert [event.number for event in watcher.named("stage")] == ["1"]


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_history, "ATTEMPTS_KEPT", 20)
    async with a_service() as service:
        await service.clock.advance(20)
        assert service.probe.attempts > 20
        async with watching(service.app) as watcher:
            numbers = [event.data["number"] for event in watcher.named("attempt")]
            last = service.probe.attempts
            assert numbers == list(range(last - 19, last + 1))


async def test_a_change_is_read_once_for_all_who_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    read = StateReader.read

    def counted(reader: StateReader) -> JsonObject:
        nonlocal reads
        reads += 1
        return read(reader)

    async with a_service(max_streams=40) as service, AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(watching(service.app)) for _ in range(40)]
        monkeypatch.setattr(StateReader, "read", counted)
        monkeypatch.setattr(_stream, "TICK_SECONDS", 60.0)
        service.startup.condition("chat-listener").set(True)
        for watcher in watchers:
            await until(lambda watcher=watcher: all_hold(watcher))  # type: ignore[misc]  # a default binds it
    assert 0 < reads < 10


def all_hold(watcher: Watcher) -> bool:
    """Whether the last state that it has is the one after the change."""
    listener = watcher.named("state")[-1].data["conditions"]["chat-listener"]
    return bool(listener["satisfied"])


async def test_the_stream_ends_when_the_orchestrator_is_left() -> None:
    async with anyio.create_task_group() as tasks:
        async with a_service() as service:
            caller = Caller(service.app, http_scope("/events"))
            tasks.start_soon(caller.run)
            await until(lambda: len(caller.sent) > 1)
        with anyio.fail_after(10):
            await caller.done.wait()
    assert Watcher(caller).events[-1].name == "end"
    assert caller.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_the_stream_ends_once_a_drain_takes_nothing_new_and_the_state_tells_of_it() -> None:
    async with a_service() as service:
        assert (await state_of(service))["draining"] == ""
        async with watching(service.app) as watcher, anyio.create_task_group() as tasks:
            tasks.start_soon(service.startup.drain, "SIGTERM")
            await until(lambda: bool(watcher.named("end")))
        assert (await state_of(service))["draining"].startswith("SIGTERM, 0.0 s ago; ")


async def test_only_so_many_may_watch() -> None:
    async with a_service(max_streams=1) as service:
        async with watching(service.app):
            refused = await ask(service.app, "/events")
            assert refused.status == 503
            assert refused.headers["retry-after"] == "5"
        async with watching(service.app):
            pass  # the place is free again


class Sluggish(Caller):
    """A client that takes the first `takes` messages, and then nothing more."""

    takes = 2

    async def send(self, message: Message) -> None:
        if len(self.sent) >= self.takes:
            await anyio.sleep_forever()
        await super().send(message)


async def test_a_client_that_takes_nothing_costs_no_memory_and_loses_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_event_stream, "SEND_SECONDS", 0.05)
    async with a_service(max_streams=1) as service, anyio.create_task_group() as tasks:
        slow = Sluggish(service.app, http_scope("/events"))
        tasks.start_soon(slow.run)
        await until(lambda: len(slow.sent) == 2)
        await service.clock.advance(30)
        with anyio.fail_after(10):
            await slow.done.wait()
        assert slow.error is None
        assert len(slow.sent) == 2
        async with watching(service.app):
            pass


class Gone(Caller):
    """A client whose server says so by an exception, as some do."""

    async def send(self, message: Message) -> None:
        if self.sent:
            raise ConnectionResetError
        await super().send(message)


async def test_a_server_that_raises_for_a_client_that_has_gone_is_understood() -> None:
    async with a_service() as service:
        gone = Gone(service.app, http_scope("/events"))
        await gone.run()
        assert gone.error is None


# -- what is allowed -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/state", "/events"])
async def test_it_can_only_be_read(path: str) -> None:
    async with a_service() as service:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            caller = await ask(service.app, path, method)
            assert caller.status == 405
            assert caller.headers["allow"] == "GET, HEAD"
        head = await ask(service.app, path, "HEAD")
        assert (head.status, head.body) == (200, b"")


FOREIGN = [
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
    {"origin": "https://evil.example", "host": "service.example"},
    {"origin": "null", "host": "service.example"},
]
OWN = [
    {},
    {"sec_fetch_site": "same-origin", "origin": "https://service.example", "host": "inside:8000"},
    {"sec_fetch_site": "none"},
    {"origin": "http://service.example:8000", "host": "service.example:8000"},
]


@pytest.mark.parametrize("path", ["/", "/state", "/events"])
@pytest.mark.parametrize("headers", FOREIGN)
async def test_other_sites_are_refused(path: str, headers: dict[str, str]) -> None:
    async with a_service() as service:
        assert (await ask(service.app, path, **headers)).status == 403


@pytest.mark.parametrize("path", ["/", "/state"])
@pytest.mark.parametrize("headers", OWN)
async def test_its_own_page_and_other_programs_are_not(path: str, headers: dict[str, str]) -> None:
    async with a_service() as service:
        assert (await ask(service.app, path, **headers)).status == 200


async def test_a_link_on_another_site_leads_to_the_page_and_no_further() -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    link["sec_fetch_dest"] = "document"
    async with a_service() as service:
        assert (await ask(service.app, "/", **link)).status == 200
        assert (await ask(service.app, "/state", **link)).status == 403


@pytest.mark.parametrize("path", ["/", "/state", "/events", "/nothing"])
async def test_every_answer_is_kept_by_nobody(path: str) -> None:
    async with a_service() as service:
        headers = (await ask(service.app, path, "HEAD")).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


async def test_the_page_may_run_itself_and_nothing_else() -> None:
    async with a_service(title="Chat <live>") as service:
        page = await ask(service.app, "/")
        text = page.body.decode()
        assert "<title>Chat &lt;live&gt;</title>" in text
        policy = dict(
            part.split(" ", 1) for part in page.headers["content-security-policy"].split("; ")
        )
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert not re.search(r"unsafe|https?:|\*", str(policy))
        for tag in ("script", "style"):
            (source,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
            assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
        assert not re.search(r"\son\w+=|\sstyle=|src=|@import|url\(http", text)


async def test_anything_else_is_not_found() -> None:
    async with a_service() as service:
        assert (await ask(service.app, "/secret")).status == 404
        caller = Caller(service.app, websocket_scope("/events"))
        await caller.run()
        assert caller.sent == [{"type": "websocket.close"}]


async def test_alone_it_takes_part_in_the_lifespan() -> None:
    async with a_service() as service:
        caller = Caller(service.app, {"type": "lifespan"})
        caller.give_only({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
        await caller.run()
        assert [message["type"] for message in caller.sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]


# -- where it is mounted -------------------------------------------------------------------------


async def test_it_is_found_where_it_is_mounted() -> None:
    async with a_service() as service:
        app: Any = Starlette(routes=[Mount("/startup", service.app)])
        assert (await ask(app, "/startup/state")).status == 200
        assert b"<!doctype html>" in (await ask(app, "/startup/")).body
        assert (await ask(service.app, "/a/startup/state", root_path="/a/startup")).status == 200
        assert (await ask(service.app, "/state", root_path="/taken/away")).status == 200


async def test_without_its_slash_it_leads_to_the_page() -> None:
    async with a_service() as service:
        caller = await ask(service.app, "/a/startup", root_path="/a/startup")
        assert caller.status == 307
        assert caller.headers["location"] == "startup/"


STATUSES = {"/startup": 307, "/startup/": 200, "/startup/state": 200, "/startups": 503, "/": 503}


async def test_in_front_of_a_gate_it_is_reached_while_everything_else_is_refused() -> None:
    startup = Orchestrator(ScriptedProbe([WRONG_PASSWORD]), clock=ManualClock())
    gate = ReadinessGate(App(), startup)
    app = web_mount(gate, web_app(startup, gate=gate))
    async with startup:
        await settled()
        assert {path: (await ask(app, path)).status for path in STATUSES} == STATUSES
        assert (await ask(app, "/startup")).headers["location"] == "startup/"
        closed = Caller(app, websocket_scope("/startup/events"))
        await closed.run()
        assert closed.sent == [{"type": "websocket.close"}]
    assert gate.counts.refused == 2  # the page's own paths are none of the gate's


@pytest.mark.parametrize("path", ["/startup/state", "/api/startup/state"])
async def test_behind_a_server_with_a_prefix_it_is_found_as_well(path: str) -> None:
    async with a_service() as service:
        app = web_mount(App(), service.app, "/startup/")
        assert b'"stage"' in (await ask(app, path, root_path="/api")).body


async def test_the_lifespan_is_that_of_the_application_it_is_in_front_of() -> None:
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async with a_service() as service:
        await Caller(web_mount(app, service.app), {"type": "lifespan"}).run()
    assert seen == ["lifespan"]


@pytest.mark.parametrize("path", ["", "/", "startup"])
async def test_it_is_mounted_at_a_path(path: str) -> None:
    async with a_service() as service:
        with pytest.raises(ValueError, match="must begin with a slash and name a place"):
            web_mount(App(), service.app, path)


async def test_it_is_seen_through_a_gate_that_holds_everything_else() -> None:
    startup = Orchestrator(ScriptedProbe([WRONG_PASSWORD]), clock=ManualClock())
    inside: Any = Starlette(routes=[Mount("/startup", web_app(startup))])
    gate = ReadinessGate(inside, startup, bypass=[*HEALTH_PATHS, *web_paths("/startup")])
    async with startup:
        await settled()
        assert (await ask(gate, "/startup/state")).status == 200
        assert (await ask(gate, "/startup/")).status == 200
        assert (await ask(gate, "/other")).status == 503


# -- how it is made ------------------------------------------------------------------------------


async def test_it_is_made_before_the_orchestrator_is_entered() -> None:
    startup = Orchestrator(ScriptedProbe())
    async with startup:
        with pytest.raises(AlreadyStarted, match="before the orchestrator is entered"):
            web_app(startup)
    web_app(startup)  # it is left, and will be entered again


@pytest.mark.parametrize(
    "url", ["https://tempo.example/", "javascript:{trace_id}", "//x{trace_id}"]
)
async def test_a_trace_url_must_lead_to_a_trace(url: str) -> None:
    with pytest.raises(ValueError, match="trace_url"):
        web_app(Orchestrator(ScriptedProbe()), trace_url=url)


async def test_somebody_must_be_able_to_watch() -> None:
    with pytest.raises(ValueError, match="max_streams"):
        web_app(Orchestrator(ScriptedProbe()), max_streams=0)


# -- its documentation ---------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "status-page.md"


async def test_the_code_of_the_documentation_runs() -> None:
    """Each block, with the names that the ones before it have made."""
    names: dict[str, object] = {
        "Orchestrator": Orchestrator,
        "RedisProbe": RedisProbe,
        "url": "redis://127.0.0.1:1/0",
        "FastAPI": FastAPI,
        "Starlette": Starlette,
        "Mount": Mount,
        "lifespan": lifespan,
        "ReadinessGate": ReadinessGate,
        "HEALTH_PATHS": HEALTH_PATHS,
        "web_paths": web_paths,
    }
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, names)  # noqa: S102  it is our own
    assert len(blocks) == 5
    app: Any = names["app"]
    assert (await ask(app, "/startup/state")).status == 200
    assert "gate" in json.loads((await ask(names["service"], "/startup/state")).body)  # type: ignore[arg-type]  # made above


async def test_the_fields_of_the_state_are_documented() -> None:
    async with a_service(Tracer(), trace_url="/t/{trace_id}") as service:
        state = await state_of(service)
        table = PAGE.read_text().partition("| field of `state` | |")[2]
        told = {
            name
            for row in table.splitlines()[2:]
            for name in re.findall(r"`(\w+)`", row.split("|")[1])
        }
        assert told == state.keys() | {"gate", "trace_id", "trace_url"}


async def test_workers_of_a_pod_are_in_the_state() -> None:
    startup = Orchestrator(ScriptedProbe())
    told = {"expected": 4, "workers": []}
    for pod in (PlayedWorkers(told), None):
        state = json.loads((await ask(web_app(startup, pod=pod), "/state")).body)
        assert state.get("pod") == (told if pod else None)
