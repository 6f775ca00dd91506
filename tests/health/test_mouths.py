"""Every way to ask for health says the same, at every stage, in a drain and after the end."""

import contextlib
import gc
import http.client
import json
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from orchestrator import Orchestrator, Policy, Stage, wsgi
from orchestrator.asgi import health_app
from orchestrator.health import GrpcHealth, _heartbeat_file, heartbeat_file, serve_health
from orchestrator.health import _watched_health as watched_health
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from states import Fact, Failure, StageChanged, StartupMachine
from tests.asgi.gate_support import Caller, http_scope, settled, until
from tests.cli import test_child_ready as child
from tests.cli import test_run as run
from tests.cli.cli_support import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

NEEDS = "needs grpcio-health-checking"
grpc: Any = pytest.importorskip("grpc", reason="needs grpcio")
pb2: Any = pytest.importorskip("grpc_health.v1.health_pb2", reason=NEEDS)
stubs: Any = pytest.importorskip("grpc_health.v1.health_pb2_grpc", reason=NEEDS)

PATHS = ("livez", "readyz", "startupz")
SERVICES = ("liveness", "readiness", "startup")
Verdicts = dict[str, bool]
Mouth = Callable[[], Awaitable[Verdicts]]


def ask_port(port: int) -> Verdicts:
    found = {}
    for path in PATHS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"/{path}")
        response = connection.getresponse()
        body = json.loads(response.read())
        assert (body["status"] == "fail") == (response.status == 503)
        found[path] = response.status == 200
        connection.close()
    return found


def ask_grpc(channel: Any) -> Verdicts:
    stub = stubs.HealthStub(channel)
    found = {}
    for path, service in zip(PATHS, SERVICES, strict=True):
        answer = stub.Check(pb2.HealthCheckRequest(service=service), timeout=30)
        assert answer.status in (1, 2)
        found[path] = answer.status == 1
    return found


def ask_all_of_grpc(channel: Any) -> Verdicts:
    stub, found = stubs.HealthStub(channel), ask_grpc(channel)
    for service in ("", "users.v1.Users"):
        answer = stub.Check(pb2.HealthCheckRequest(service=service), timeout=30)
        assert (answer.status == 1) == found["readyz"]
    return found


class Watcher:
    """Streams of `Watch`, each read in a thread of its own; begun again when they end."""

    def __init__(self, channel: Any) -> None:
        self.seen: dict[str, list[int]] = {service: [] for service in SERVICES}
        self._stub = stubs.HealthStub(channel)
        self._open: dict[str, Any] = {}
        self._closed = threading.Event()
        read = self._read
        self._threads = [threading.Thread(target=read, args=(service,)) for service in SERVICES]
        for thread in self._threads:
            thread.start()

    def _read(self, service: str) -> None:
        while not self._closed.wait(0.01):
            self._open[service] = self._stub.Watch(pb2.HealthCheckRequest(service=service))
            with contextlib.suppress(grpc.RpcError):
                for answer in self._open[service]:
                    self.seen[service].append(answer.status)

    def verdicts(self) -> Verdicts:
        last = {service: (seen or [0])[-1] for service, seen in self.seen.items()}
        return {path: last[name] == 1 for path, name in zip(PATHS, SERVICES, strict=True)}

    def close(self) -> None:
        self._closed.set()
        while any(thread.is_alive() for thread in self._threads):
            for call in list(self._open.values()):
                call.cancel()
            time.sleep(0.01)


@contextmanager
def grpc_channel(startup: Orchestrator) -> Iterator[Any]:
    with ThreadPoolExecutor(2) as pool:  # fewer than there are streams
        server = grpc.server(pool)
        GrpcHealth(startup, services=["users.v1.Users"]).add_to(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
        server.stop(None).wait()


@asynccontextmanager
async def aio_channel(startup: Orchestrator) -> AsyncGenerator[Any]:
    server = grpc.aio.server()
    GrpcHealth(startup, services=["users.v1.Users"]).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def no_wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    raise AssertionError(environ)  # health checks do not reach it


class Mouths:
    """All ways to ask one orchestrator."""

    def __init__(self, startup: Orchestrator, path: Path, backend: str) -> None:
        self.startup = startup
        self.path = path
        self.backend = backend
        self.at_once: dict[str, Mouth] = {}
        self.soon: dict[str, Callable[[], Verdicts]] = {}
        self.wsgi = wsgi.ReadinessGate(no_wsgi_app, startup, health=True, run_in_thread=False)

    async def open(self, stack: AsyncExitStack) -> None:
        startup = self.startup
        heartbeat_file(startup, self.path, interval_seconds=60)
        here = await stack.enter_async_context(serve_health(startup, 0, host="127.0.0.1"))
        there = stack.enter_context(serve_health(startup, 0, host="127.0.0.1"))
        channels = {"threads": stack.enter_context(grpc_channel(startup))}
        if self.backend == "asyncio":
            channels["aio"] = await stack.enter_async_context(aio_channel(startup))
        self.at_once["application"] = self.ask_application
        self.at_once["WSGI"] = self.ask_wsgi
        for name, port in {"own loop": here.port, "own thread": there.port}.items():
            self.at_once[name] = partial(anyio.to_thread.run_sync, ask_port, port)
        for name, channel in channels.items():
            self.at_once[name] = partial(anyio.to_thread.run_sync, ask_all_of_grpc, channel)
            watcher = Watcher(channel)
            stack.callback(watcher.close)
            self.soon[f"{name}, watched"] = watcher.verdicts

    async def ask_application(self) -> Verdicts:
        app, found = health_app(self.startup), {}
        for path in PATHS:
            caller = Caller(app, http_scope(f"/{path}"))
            await caller.run()
            found[path] = caller.status == 200
        return found

    async def ask_wsgi(self) -> Verdicts:
        answers: list[str] = []
        for path in PATHS:
            environ = {"PATH_INFO": f"/{path}", "REQUEST_METHOD": "GET"}
            self.wsgi(environ, lambda status, _: answers.append(status))
        return {path: answer == "200 OK" for path, answer in zip(PATHS, answers, strict=True)}

    def read_file(self) -> Verdicts:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        found = dict(line.split() for line in lines)
        return {path: found.get(path, "fail") != "fail" for path in PATHS}

    @staticmethod
    def says(said: Callable[[], Verdicts], expected: Verdicts) -> bool:
        return said() == expected

    async def agree(self, *passing: str) -> None:
        expected = {path: path in passing for path in PATHS}
        for name, ask in self.at_once.items():
            assert await ask() == expected, name
        for said in self.soon.values():
            await until(partial(self.says, said, expected))


async def test_they_agree_at_every_stage_in_a_drain_and_after_the_end(
    tmp_path: Path, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, probe = ManualClock(), ScriptedProbe([REFUSED])
    policy = Policy(grace_seconds=1.0)
    startup = Orchestrator(probe, conditions=["listener"], clock=clock, policy=policy)
    mouths = Mouths(startup, tmp_path / "health", anyio_backend)
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        await mouths.open(stack)
        await mouths.agree("livez")
        mouths.soon["file"] = mouths.read_file
        await startup.start()
        await settled()
        assert str(startup.stage) == "probing_redis"
        await mouths.agree("livez")
        probe.then(None)
        await clock.advance(1.0)
        assert str(startup.stage) == "grace"
        await mouths.agree("livez")
        startup.condition("listener").set(True)
        await clock.advance(2.0)
        assert str(startup.stage) == "ready"
        await mouths.agree(*PATHS)
        startup.condition("listener").set(False)
        await settled()
        assert str(startup.stage) == "degraded"
        await mouths.agree(*PATHS)  # it warns
        tasks.start_soon(startup.drain)
        await until(lambda: startup.draining)
        await mouths.agree("livez", "startupz")
        startup.stop()
        await mouths.agree()
        await startup.aclose()
        await mouths.agree()
        await startup.start()  # a new start-up
        await until(lambda: startup.stage is not Stage.BOOTING)
        await mouths.agree("livez")

        def broken(_: StartupMachine, __: Fact) -> StageChanged | None:
            raise KeyError("a secret that must not show")

        monkeypatch.setattr(StartupMachine, "receive", broken)
        startup.condition("listener").set(True)
        await until(lambda: startup.ended is not None)
        await mouths.agree()
        with pytest.raises(ExceptionGroup):
            await startup.aclose()
        tasks.cancel_scope.cancel()


SERVICE = (
    child.STEPS
    + """
import anyio
from orchestrator import Orchestrator, Policy, Stage
from orchestrator.health import serve_health
from orchestrator.testing import REFUSED, ScriptedProbe
probe = ScriptedProbe([REFUSED])
startup = Orchestrator(probe, policy=Policy(grace_seconds=0.0), conditions=["listener"])
with serve_health(startup, 0, host="127.0.0.1") as server:
    print(server.port, flush=True)
    step()
    with startup.run_in_thread():
        startup.wait_for_sync(Stage.PROBING_REDIS, timeout_seconds=30)
        print("probing_redis", flush=True)
        step()
        probe.then(None)
        startup.wait_for_sync(Stage.GRACE, timeout_seconds=30)
        print("grace", flush=True)
        step()
        startup.condition("listener").set(True)
        startup.wait_for_sync(Stage.READY, timeout_seconds=30)
        print("ready", flush=True)
        step()
        startup.condition("listener").set(False)
        startup.wait_for_sync(Stage.DEGRADED, timeout_seconds=30)
        print("degraded", flush=True)
        step()
        anyio.run(startup.drain)
        print("drained", flush=True)
        step()
    print("left", flush=True)
    step()
"""
)


def test_run_says_of_a_service_what_the_service_says_of_itself() -> None:
    """But `/livez`: that of `run` is its own, and it ends when the service ends."""

    def agree(*passing: str) -> None:
        expected = {path: 200 if path in passing else 503 for path in PATHS[1:]}
        for port in (own_port, run_port):
            until_at = time.monotonic() + PATIENCE_SECONDS
            while (seen := {path: run.ask(port, f"/{path}")[0] for path in expected}) != expected:
                assert time.monotonic() < until_at, (port == run_port, seen)
                time.sleep(0.01)  # a report is on its way
        assert run.ask(run_port, "/livez")[0] == 200

    with child.running(SERVICE) as (process, run_port):
        assert process.stdout is not None
        own_port = int(process.stdout.readline())
        agree()
        for stage, passing in {
            "probing_redis": (),
            "grace": (),
            "ready": ("readyz", "startupz"),
            "degraded": ("readyz", "startupz"),
            "drained": ("startupz",),
            "left": (),
        }.items():
            child.next_step(process)
            child.said(process, stage)
            agree(*passing)
        child.next_step(process)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_a_stuck_event_loop_is_noticed_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_health, "STUCK_SECONDS", 0.3)
    monkeypatch.setattr(watched_health, "LOOK_SECONDS", 0.05)
    path, let_go = tmp_path / "health", threading.Event()
    startup = Orchestrator(ScriptedProbe("ok"), policy=Policy(grace_seconds=0.01))
    heartbeat_file(startup, path, interval_seconds=0.05)
    live = dict.fromkeys(PATHS, True)
    with (
        serve_health(startup, 0, host="127.0.0.1") as server,
        grpc_channel(startup) as channel,
        startup.run_in_thread(),
    ):
        startup.wait_for_sync(Stage.READY, timeout_seconds=30)
        wait_until(lambda: ask_port(server.port) == ask_grpc(channel) == live)
        wait_until(path.exists)
        assert startup._life is not None
        startup._life.loop.call(let_go.wait)
        try:
            stuck = dict.fromkeys(PATHS, False)
            wait_until(lambda: ask_port(server.port) == ask_grpc(channel) == stuck)
            wait_until(lambda: time.time() - path.stat().st_mtime > 0.5)
        finally:
            let_go.set()
        wait_until(lambda: ask_port(server.port) == ask_grpc(channel) == live)
        wait_until(lambda: time.time() - path.stat().st_mtime < 0.5)
    assert list(tmp_path.iterdir()) == []


def wait_until(holds: Callable[[], bool]) -> None:
    until_at = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until_at
        time.sleep(0.02)  # there is no event to wait for from outside


def test_grpc_clients_learn_what_is_unknown_and_what_is_no_request() -> None:
    startup = Orchestrator(ScriptedProbe("ok"))
    with grpc_channel(startup) as channel:
        stub = stubs.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Check(pb2.HealthCheckRequest(service="nobody"), timeout=30)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(pb2.HealthCheckRequest(service="nobody"))
        assert next(watch).status == pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()
        for method in (channel.unary_unary, channel.unary_stream):
            kind = "Check" if method == channel.unary_unary else "Watch"
            with pytest.raises(grpc.RpcError) as refused:
                list(method(f"/grpc.health.v1.Health/{kind}")(b"\xff", timeout=30))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("path", "interval_seconds", "said"),
    [("/", 5.0, "must name a file"), ("x", 0, "must be above 0"), ("x", float("inf"), "above 0")],
)
def test_a_heartbeat_that_cannot_be_is_refused(
    path: str, interval_seconds: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        heartbeat_file(Orchestrator(ScriptedProbe()), path, interval_seconds=interval_seconds)


async def test_a_heartbeat_that_cannot_be_written_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, write = [], _heartbeat_file._Writing.write

    def counted(writing: _heartbeat_file._Writing) -> Failure | None:
        tried.append(writing.text)
        return write(writing)

    monkeypatch.setattr(_heartbeat_file._Writing, "write", counted)
    startup = Orchestrator(ScriptedProbe("ok"), policy=Policy(grace_seconds=0.01))
    heartbeat_file(startup, tmp_path / "nowhere" / "health", interval_seconds=0.01)
    async with startup:
        await startup.wait_for(Stage.READY)
        await until(lambda: len(tried) > 5 and "cannot be written" in caplog.text)
    assert caplog.text.count("cannot be written: FileNotFoundError") == 1


async def test_a_heartbeat_is_removed_also_where_the_last_write_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, let_go, hangs = Path.replace, threading.Event(), threading.Event()

    def replace_late(new: Path, path: Path) -> Path:
        if "startupz pass" in new.read_text():
            hangs.set()
            let_go.wait()
        return replace(new, path)

    monkeypatch.setattr(Path, "replace", replace_late)
    path = tmp_path / "health"
    startup = Orchestrator(ScriptedProbe("ok"), policy=Policy(grace_seconds=0.01))
    heartbeat_file(startup, path, interval_seconds=60)
    try:
        async with startup:
            await startup.wait_for(Stage.READY)
            await until(hangs.is_set)
    finally:
        let_go.set()
    await until(lambda: not any(tmp_path.iterdir()))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_port_that_is_taken_says_so_where_it_is_opened() -> None:
    startup = Orchestrator(ScriptedProbe("ok"))
    async with serve_health(startup, 0, host="127.0.0.1") as first:
        with pytest.raises(OSError, match="cannot listen on"):
            async with serve_health(startup, first.port, host="127.0.0.1"):
                pass
        with pytest.raises(OSError, match="cannot listen on"):
            serve_health(startup, first.port, host="127.0.0.1").__enter__()
    async with serve_health(startup, first.port, host="127.0.0.1"):
        pass  # it was closed
    gc.collect()  # anyio before 4.5 forgets to close a socket that it could not bind
