"""`Fleet` on a real Redis, beside a real orchestrator, on asyncio and trio."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis
import redis.asyncio

from orchestrator import Orchestrator, Stage
from orchestrator._ports import KnowsFleet
from orchestrator.fleet import (
    Fleet,
    FleetFigures,
    FleetState,
    _loop_watch,
    _own_messages,
    _publisher,
)
from orchestrator.fleet._decode import decode_state
from orchestrator.fleet._wire import SERVICES_KEY
from orchestrator.redis import RedisProbe
from orchestrator.testing import ScriptedProbe
from tests.faults.watching import QUICK
from tests.fleet.published import KEYS, admin, told
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.redis_server import FakeServer, RedisServer, free_port, silent

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=EACH_PROGRAM)
def started(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binary=PROGRAMS[request.param]) as server:
        yield server


@pytest.fixture
def server(started: RedisServer) -> RedisServer:
    with admin(started) as client:
        client.flushall()
    return started


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    with admin(server) as connected:
        yield connected


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    with anyio.fail_after(seconds):
        while not true():
            await anyio.sleep(0.005)


def states(client: "redis.Redis") -> list[FleetState]:
    found: Any = client.hgetall(KEYS.instances)
    read = [decode_state(name.encode(), value.encode()) for name, value in found.items()]
    assert all(isinstance(state, FleetState) for state in read), read
    return [state for state in read if isinstance(state, FleetState)]


def leases(client: "redis.Redis") -> list[float]:
    """For how long each lease still lasts, in seconds."""
    seconds, microseconds = client.time()
    scores: Any = client.zrange(KEYS.leases, 0, -1, withscores=True)
    return [score - seconds - microseconds / 1e6 for _, score in scores]


async def test_a_start_is_published_and_leaving_says_goodbye(
    server: RedisServer, client: "redis.Redis"
) -> None:
    fleet = Fleet(server.url, service="chat", instance="chat-1", version="1.2")
    startup = Orchestrator(
        RedisProbe(server.url), policy=QUICK, conditions=["database"], observers=[fleet]
    )
    async with startup:
        startup.condition("database").set(False, reason="no connection")
        await until(lambda: any(one.conditions["database"].reason for one in states(client)))
        (state,) = states(client)
        assert state.waits_for == ("condition database (no connection)",)
        startup.condition("database").set(True)
        await startup.wait_for(Stage.READY)
        await until(lambda: fleet.figures.sent == 3)
        (state,) = states(client)
        assert (state.entry.instance, state.entry.version, state.service) == (
            "chat-1",
            "1.2",
            "chat",
        )
        assert state.entry.current is Stage.READY
        assert not state.waits_for
        assert state.startup_seconds is not None
        assert set(state.steps) <= {"imports", "before entering", "redis", "database", "grace"}
        assert 0 < leases(client)[0] <= 6
        assert fleet.fleet_size == 1
        assert client.zscore(SERVICES_KEY, "chat")
    (state,) = states(client)
    assert state.left
    assert leases(client)[0] <= 0
    assert told(client) == [1, 2, 3]
    assert fleet.figures == FleetFigures(sent=3, connects=1)


async def test_each_start_is_an_incarnation_of_its_own(
    server: RedisServer, client: "redis.Redis"
) -> None:
    startup = Orchestrator(
        RedisProbe(server.url), policy=QUICK, observers=[Fleet(server.url, service="chat")]
    )
    for _ in range(2):
        async with startup:
            await startup.wait_for(Stage.READY)
    assert len(states(client)) == 2
    assert told(client) == [1, 2, 3, 1, 2, 3]


async def test_what_is_published_just_before_leaving_is_not_lost(
    server: RedisServer, client: "redis.Redis"
) -> None:
    startup = Orchestrator(
        RedisProbe(server.url), policy=QUICK, observers=[Fleet(server.url, service="chat")]
    )
    async with startup:
        await startup.wait_for(Stage.GRACE)
    assert told(client)[-1] >= 2
    (state,) = states(client)
    assert state.left


async def test_a_disabled_orchestrator_is_not_published(
    server: RedisServer, client: "redis.Redis"
) -> None:
    fleet = Fleet(server.url, service="chat")
    async with Orchestrator(RedisProbe(server.url), enabled=False, observers=[fleet]) as startup:
        await startup.wait_for(Stage.READY)
    assert client.keys("*") == []
    assert fleet.figures == FleetFigures()
    assert fleet.fleet_size is None


async def test_one_fleet_does_not_observe_two_orchestrators(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet(server.url, service="chat")
    first, second = (
        Orchestrator(RedisProbe(server.url), policy=QUICK, observers=[fleet]) for _ in range(2)
    )
    async with first, second:
        await second.wait_for(Stage.READY)
    assert "give each its own" in caplog.text


async def test_redis_is_not_asked_before_the_probe_has_been_answered() -> None:
    server = RedisServer(free_port())
    fleet = Fleet(server.url, service="chat")
    startup = Orchestrator(RedisProbe(server.url), policy=QUICK, observers=[fleet])
    async with startup:
        await until(lambda: startup.snapshot.attempts > 10)
        assert fleet.figures.connects == 0
        assert fleet.figures.behind == 1
        try:
            await anyio.to_thread.run_sync(server.start)
            await startup.wait_for(Stage.READY)
            await until(lambda: fleet.figures.behind == 0)
            assert fleet.figures.connects == 1
        finally:
            server.stop()


async def test_a_redis_of_its_own_that_is_away_delays_no_start_and_no_exit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet(f"redis://127.0.0.1:{free_port()}", service="chat")
    async with Orchestrator(ScriptedProbe(), policy=QUICK, observers=[fleet]) as startup:
        await startup.wait_for(Stage.READY)
        await until(lambda: fleet.figures.connects > 3)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert caplog.text.count("the fleet does not learn how this instance stands") == 1


async def test_a_redis_that_hangs_delays_the_exit_by_a_second_at_most_and_ends_the_thread() -> None:
    with FakeServer(silent) as hung:
        fleet = Fleet(hung.url, service="chat")
        async with Orchestrator(ScriptedProbe(), policy=QUICK, observers=[fleet]) as startup:
            await startup.wait_for(Stage.READY)
            await anyio.to_thread.run_sync(hung.wait_until_accepted, 1)
        await until(lambda: not any(t.name == "orchestrator-fleet" for t in threading.enumerate()))


async def test_an_event_loop_that_is_stuck_is_said_and_so_is_its_return(
    server: RedisServer, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(_publisher, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(_loop_watch, "STUCK_SECONDS", 0.5)
    fleet = Fleet(server.url, service="chat")
    async with Orchestrator(RedisProbe(server.url), policy=QUICK, observers=[fleet]) as startup:
        await startup.wait_for(Stage.READY)
        await until(lambda: states(client))
        before = time.time()
        deadline = time.monotonic() + 20
        while states(client)[0].stuck_since is None:  # this is what blocks the loop
            assert time.monotonic() < deadline
            time.sleep(0.02)
        since = states(client)[0].stuck_since
        assert since is not None
        assert before - 1 < since < time.time()
        assert leases(client)[0] <= 0
        await until(lambda: states(client)[0].stuck_since is None)
        assert leases(client)[0] > 0


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
async def test_no_option_of_the_clients_changes_what_is_written(
    server: RedisServer, client: "redis.Redis", kind: str
) -> None:
    options: Any = {"port": server.port, "decode_responses": True, "protocol": 3}
    options["socket_timeout"] = 0.01
    family: Any = redis.asyncio if kind == "asyncio" else redis
    fleet = Fleet.from_client(family.Redis(**options), service="chat")
    async with Orchestrator(RedisProbe(server.url), policy=QUICK, observers=[fleet]) as startup:
        await startup.wait_for(Stage.READY)
        server.freeze()
        await anyio.sleep(0.05)  # longer than the client would wait
        server.thaw()
        await until(lambda: fleet.figures.sent == 3)
        assert fleet.figures.connects == 1
    assert told(client) == [1, 2, 3]


async def test_the_pace_of_the_probe_follows_the_size_of_the_fleet(server: RedisServer) -> None:
    fleets = [Fleet(server.url, service="chat") for _ in range(3)]
    assert all(isinstance(fleet, KnowsFleet) for fleet in fleets)
    async with anyio.create_task_group() as tasks:
        left = anyio.Event()

        async def run(fleet: Fleet) -> None:
            async with Orchestrator(RedisProbe(server.url), policy=QUICK, observers=[fleet]):
                await left.wait()

        for fleet in fleets:
            tasks.start_soon(run, fleet)
        await until(lambda: fleets[0].fleet_size == 3)
        left.set()


FORKED = """
import os, sys
from orchestrator import Orchestrator, Stage
from orchestrator.fleet import Fleet
from orchestrator.redis import RedisProbe
from tests.faults.scenes import wait_until

fleet = Fleet(sys.argv[1], service="chat")
startup = Orchestrator(RedisProbe(sys.argv[1]), observers=[fleet])
with startup.run_in_thread():
    startup.wait_for_sync(Stage.READY)
    wait_until(lambda: fleet.figures.sent == 3)
    child = os.fork()
    if child == 0:
        assert fleet.fleet_size is None
        with startup.run_in_thread():
            startup.wait_for_sync(Stage.READY)
            wait_until(lambda: fleet.figures.sent == 3)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    wait_until(lambda: fleet.fleet_size == 1)  # its next beat
    assert fleet.figures.connects == 1
"""


def test_a_fork_publishes_for_itself_and_leaves_the_connection_of_its_parent_alone(
    server: RedisServer, client: "redis.Redis"
) -> None:
    command = [sys.executable, "-c", FORKED, server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert told(client) == [1, 2, 3, 1, 2, 3]
    assert len(states(client)) == 2
    assert all(state.left for state in states(client))


@pytest.mark.parametrize(
    ("environ", "service"),
    [
        ({"OTEL_SERVICE_NAME": "chat"}, "chat"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=my%20chat"}, "my-chat"),
        ({"K_SERVICE": "chat-run"}, "chat-run"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "DEPLOYMENT_NAME": "chat-pods"}, "chat-pods"),
        ({"ORCHESTRATOR_FLEET_SERVICE": "a", "OTEL_SERVICE_NAME": "b"}, "a"),
        ({"OTEL_SERVICE_NAME": "ä" * 100 + "b"}, "-b"),
    ],
)
def test_the_environment_names_the_service(
    environ: dict[str, str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", environ)
    assert Fleet("redis://localhost").service == service


def test_what_cannot_be_is_refused_where_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    url: Any = "redis://localhost"
    with pytest.raises(ValueError, match="OTEL_SERVICE_NAME"):
        Fleet(url)
    with pytest.raises(ValueError, match="1 to 64"):
        Fleet(url, service="chat}")
    wrong: Any = 5
    for name in ("service", "instance", "version"):
        given = {"service": "chat"} | {name: wrong}
        with pytest.raises(TypeError, match=f"{name} must be a str"):
            Fleet(url, **given)
    with pytest.raises(ValueError, match="redis://"):
        Fleet("localhost", service="chat")
    assert "word" not in repr(Fleet("redis://:word@localhost", service="chat"))
