"""A planted password, and everything that anybody can read afterwards."""

import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import anyio
import pytest
import redis
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator import Orchestrator, Policy, Probe, ProbeResult, StartupTimeout
from orchestrator.asgi import ReadinessGate, health_app
from orchestrator.fleet import Fleet
from orchestrator.fleet._wire import SERVICES_KEY, fleet_keys
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from orchestrator.testing import ScriptedProbe
from states import Stage
from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.faults.scenes import SECRET, Scene, Unavailable, answering, fake
from tests.faults.watching import Diary
from tests.redis_server import FakeServer, RedisServer

pytestmark = pytest.mark.long

USER = f"user-{SECRET}"
LOGIN = f"{USER}:{SECRET}@"

# What a server may say with a secret in it, in each form for which there is a branch of code.
TALES = [
    f"{begin} {SECRET}"
    for begin in (
        *("-ERR", "-WRONGPASS", "-NOAUTH", "-NOPERM", "-LOADING", "-MASTERDOWN", "-MISCONF"),
        *("-DENIED", "-BUSY", "-OOM", "-READONLY", "-MOVED 1", "-ASK 1", "-CLUSTERDOWN", "-XYZ"),
        *("-ERR unknown command", "-ERR invalid password", "-ERR DB index", "-NOREPLICAS"),
        *("-ERR wrong number of arguments for 'auth' command", "+", ":", "$", "*", "HTTP/1.1"),
    )
]

POLICY = Policy(attempt_timeout_seconds=0.2, budget_seconds=0.25)


class Heard:
    """Everything that came out anywhere."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.metrics = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self._providers = (tracers, MeterProvider([self.metrics]))
        self.texts: list[str] = []

    def observer(self) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(*self._providers)

    def hear(self, *things: object) -> None:
        self.texts += [f"{thing} {thing!r}" for thing in things]

    def everything(self, log: pytest.LogCaptureFixture) -> str:
        spans = [span.to_json() for span in self.spans.get_finished_spans()]
        data = self.metrics.get_metrics_data()
        assert spans
        assert data is not None
        records = [f"{record.msg} {record.args!r} {record.exc_text}" for record in log.records]
        return "\n".join([*self.texts, *spans, data.to_json(), log.text, *records])


async def body(app: object, path: str, kind: str = "http") -> str:
    """What an ASGI application answers."""
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect" if kind == "websocket" else "http.request"}

    async def send(message: object) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "method": "GET", "headers": [], "root_path": ""}
    await app(scope, receive, send)  # type: ignore[operator]  # an ASGI application
    return repr(sent)


async def listen_to(probe: Probe, heard: Heard, store: str) -> None:
    """Start a service with this probe, and write down all that it says."""
    diary = Diary()
    observers = [diary, heard.observer(), Fleet(store, service="chat", version="1")]
    startup = Orchestrator(probe, policy=POLICY, observers=observers)
    heard.hear(probe, startup, probe.target)
    async with startup:
        gate = ReadinessGate(health_app(startup), startup, hold_seconds=0)
        await diary.until(lambda: diary.attempts)
        try:
            await startup.wait_for(Stage.READY, timeout_seconds=0.3)
        except StartupTimeout as error:
            heard.hear(error, *traceback.format_exception(error))
        heard.hear(startup.explain(), startup.latest, *diary.facts, *diary.changes)
        for path in ("/livez", "/readyz", "/startupz", "/nowhere"):
            heard.hear(await body(health_app(startup, details=True), path))
        heard.hear(await body(gate, "/"), await body(gate, "/ws", "websocket"))


@contextmanager
def all_faults() -> Iterator[list[Scene]]:
    """Every fault that can be produced, and servers that tell tales."""
    tales = [
        Fault(tale, fake(answering(tale.encode() + b"\r\n"), user=LOGIN), None) for tale in TALES
    ]
    with ExitStack() as stack:
        scenes = []
        for fault in [*FAULTS, *tales]:
            if fault.name == "runs a script":  # it would take a processor from all the others
                continue
            with suppress(Unavailable):
                scenes.append(stack.enter_context(fault.scene()))
        yield scenes


def planted(scene: Scene) -> Iterator[Probe]:
    """Probes of a scene with the password wherever it can be."""
    yield scene.probe()
    if scene.make is None and "@" not in scene.url:
        url = scene.url.replace("://", f"://{LOGIN}")
        yield RedisProbe(url, expect=scene.expect)
        yield RedisProbe(f"{url}{'&' if '?' in url else '?'}protocol=3", expect=scene.expect)


async def publish_to(scene: Scene, heard: Heard) -> None:
    """Publish to a Redis in trouble, and write down all that is said of it."""
    url = scene.url if "@" in scene.url else scene.url.replace("://", f"://{LOGIN}")
    fleet = Fleet(url, service="chat")
    async with Orchestrator(ScriptedProbe(), policy=POLICY, observers=[fleet]) as startup:
        await startup.wait_for(Stage.READY)
        with anyio.move_on_after(1):
            while fleet.figures.connects < 4:
                await anyio.sleep(0.01)
    heard.hear(fleet, fleet.figures, startup.explain())


def everything_in(store: RedisServer) -> list[object]:
    """What the keys of the fleet hold."""
    with redis.Redis(port=store.port, decode_responses=True, protocol=2) as client:
        keys = fleet_keys("chat")
        assert {*keys, SERVICES_KEY} == set(client.keys("*"))
        found = [client.xrange(keys.events), client.hgetall(keys.instances)]
        return [*found, client.zrange(keys.leases, 0, -1), client.zrange(SERVICES_KEY, 0, -1)]


class Talkative(Probe):
    """Raises with a password in its text, as clients do."""

    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        raise redis.ConnectionError(f"cannot connect to redis://{LOGIN}host")

    async def changed(self) -> None:
        raise redis.ConnectionError(f"cannot watch redis://{LOGIN}host")

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # no text depends on the event loop
async def test_nothing_that_anybody_reads_holds_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    with RedisServer() as store, all_faults() as scenes:
        for scene in scenes:
            scene.inflict()
        probes: list[Probe] = [probe for scene in scenes for probe in planted(scene)]
        client = redis.Redis(port=1, username=USER, password=SECRET)
        probes += [RedisProbe.from_client(client), Talkative()]
        limiter = anyio.CapacityLimiter(24)

        async def one(probe: Probe) -> None:
            async with limiter:
                await listen_to(probe, heard, store.url)

        async def publish(scene: Scene) -> None:
            async with limiter:
                await publish_to(scene, heard)

        async with anyio.create_task_group() as tasks:
            for probe in probes:
                tasks.start_soon(one, probe)
            for scene in scenes:
                tasks.start_soon(publish, scene)
        for scene in scenes:
            scene.heal()
        published = everything_in(store)
        heard.hear(*published)
        assert "rejected the login" in str(published)
    said = heard.everything(caplog)
    assert len(probes) > 100
    assert "rejected the login" in said
    assert SECRET not in said, said[max(0, said.index(SECRET) - 300) :][:600]


@pytest.mark.parametrize(
    "url",
    [
        f"redis://{LOGIN}host:port",
        f"redis://:{SECRET}/x@host:6379",
        f"redis://{USER}#{SECRET}@host",
        f"http://{LOGIN}host",
        f"redis://{LOGIN}[host",
        f"rediss://{LOGIN}host?ssl_cert_reqs={SECRET}",
    ],
)
def test_no_traceback_of_a_bad_url_holds_it(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as caught:
        RedisProbe(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ValueError, match="Redis URL") as caught:
        RedisProbe.from_sentinel([("host", 1)], "chat", sentinel_url=url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


COMMANDS = (
    ["settings"],
    ["check", "--json"],
    ["wait", "--timeout", "0.3"],
)


def test_no_command_prints_it() -> None:
    tale = answering(f"-ERR {SECRET}\r\n".encode())
    with FakeServer(tale) as telling:
        running = []
        for url in (
            f"redis://{LOGIN}127.0.0.1:{telling.port}/1",
            f"redis://{LOGIN}127.0.0.1:port",
            f"nonsense://{LOGIN}127.0.0.1",
        ):
            environment = {**os.environ, "REDIS_URL": url, "ORCHESTRATOR_LOG": "debug"}
            running += [
                subprocess.Popen(
                    [sys.executable, "-m", "orchestrator", *command],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                for command in COMMANDS
            ]
        outputs = [process.communicate(timeout=30)[0].decode() for process in running]
    assert all(outputs)
    assert not any("Traceback" in output for output in outputs), outputs
    assert not any(SECRET in output for output in outputs), json.dumps(outputs, indent=1)
