"""An application that is loaded behind its gate: what clients, conditions and the server see."""

import logging
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import anyio
import pytest

from orchestrator import (
    AlreadyStarted,
    DuplicateCondition,
    Orchestrator,
    Policy,
    Stage,
    UnknownCondition,
)
from orchestrator._http.asgi_types import Message, Receive, Scope, Send
from orchestrator.asgi import LoadError, ReadinessGate, deferred
from orchestrator.asgi import _deferred as deferred_module
from orchestrator.asgi._exit_status import Failed, status_of
from orchestrator.asgi._import_string import ImportString
from orchestrator.testing import ManualClock, ScriptedProbe
from tests.asgi.gate_support import App, Caller, http_scope, settled, until, websocket_scope

pytestmark = pytest.mark.anyio

CHAT = """
import held_back
held_back.imports.append(__name__)
held_back.go.wait(30)
from held_back import app
"""


class HeldBack(ModuleType):
    """What the applications of these tests import: it lets a test hold their import back."""

    def __init__(self) -> None:
        super().__init__("held_back")
        self.go = threading.Event()
        self.imports: list[str] = []
        self.app: Any = App()


Write = Callable[[str, str], None]


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldBack]:
    module = HeldBack()
    monkeypatch.setitem(sys.modules, "held_back", module)
    yield module
    module.go.set()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module that can be imported until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    written = list[str]()

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The exit statuses with which the process would have ended, as no server that is known."""
    for server in ("gunicorn.workers.base", "uvicorn.server"):  # other tests load them
        monkeypatch.delitem(sys.modules, server, raising=False)
    statuses = list[object]()
    monkeypatch.setattr(deferred_module, "end_process", statuses.append)
    return statuses


class Server:
    """A server's side of the lifespan."""

    def __init__(self, gate: ReadinessGate) -> None:
        self.gate = gate
        self.scope: Scope = {"type": "lifespan", "state": {}}
        self.sent: list[Message] = []
        self.stop, self.ended = anyio.Event(), anyio.Event()
        self._asked = False

    async def receive(self) -> Message:
        if self._asked:
            await self.stop.wait()
            return {"type": "lifespan.shutdown"}
        self._asked = True
        return {"type": "lifespan.startup"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self) -> None:
        await self.gate(self.scope, self.receive, self.send)
        self.ended.set()


@asynccontextmanager
async def serving(gate: ReadinessGate) -> AsyncGenerator[Server]:
    """The gate on a server whose port is open."""
    server = Server(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run)
        await until(lambda: bool(server.sent))
        assert server.sent == [{"type": "lifespan.startup.complete"}]
        yield server
        server.stop.set()


async def get(gate: ReadinessGate, path: str = "/") -> Caller:
    caller = Caller(gate, http_scope(path))
    await caller.run()
    assert caller.error is None
    return caller


def an_orchestrator(**options: Any) -> Orchestrator:
    return Orchestrator(ScriptedProbe(), **options)


class Chat(App):
    """An application with a lifespan that a test lets go on."""

    def __init__(self, ends: str = "") -> None:
        super().__init__()
        self.go, self.up, self.left = anyio.Event(), anyio.Event(), False
        self.ends = ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return
        assert await receive() == {"type": "lifespan.startup"}
        await self.go.wait()
        if self.ends == "exits":
            sys.exit(9)
        if self.ends == "fails":
            await send({"type": "lifespan.startup.failed", "message": "no disk"})
            raise RuntimeError("no disk")
        scope["state"]["pool"] = 1
        await send({"type": "lifespan.startup.complete"})
        self.up.set()
        if self.ends == "dies":
            raise ValueError("a secret")
        assert await receive() == {"type": "lifespan.shutdown"}
        self.left = True
        failed = self.ends == "fails to shut down"
        await send({"type": f"lifespan.shutdown.{'failed' if failed else 'complete'}"})


@pytest.mark.parametrize("import_on", ["thread", "loop"])
async def test_clients_are_held_while_the_application_is_imported_and_starts(
    import_on: Literal["thread", "loop"], held_back: HeldBack, write: Write
) -> None:
    write("chat_a", CHAT)
    held_back.app = chat = Chat()
    startup = an_orchestrator()
    gate = deferred("chat_a:app", startup, import_on=import_on)
    assert held_back.imports == []
    if import_on == "loop":
        held_back.go.set()
    async with serving(gate) as server, anyio.create_task_group() as tasks:
        assert (await get(gate, "/livez")).status == 200
        early = Caller(gate, http_scope()), Caller(gate, websocket_scope())
        for caller in early:
            caller.scope["state"] = server.scope["state"].copy()  # as servers do
            tasks.start_soon(caller.run)
        if import_on == "thread":
            await until(lambda: bool(held_back.imports))
            answer = await get(gate, "/startupz")
            assert answer.status == 503
            assert '"importing chat_a, 0.' in answer.body.decode()
            assert answer.body.decode().endswith(' s so far"}')
            held_back.go.set()
        await until(lambda: startup.snapshot.conditions["import"].satisfied)
        await until(lambda: "starting the lifespan of chat_a, 0." in str(startup.explain()))
        assert startup.explain().conditions["import"].reason == ""
        assert [caller.sent for caller in early] == [[], []]
        chat.go.set()
        with anyio.fail_after(20):
            await startup.wait_for(Stage.READY)
            await early[0].done.wait()
        assert early[0].status == 200
        late = await get(gate)
        early[1].give({"type": "websocket.disconnect", "code": 1000})
        await early[1].done.wait()
        assert early[1].sent[0] == {"type": "websocket.accept"}
        assert [scope["state"]["pool"] for scope in chat.scopes[:2]] == [1, 1]
        assert late.status == 200
        assert (await get(gate, "/startupz")).status == 200
    assert server.sent[1:] == [{"type": "lifespan.shutdown.complete"}]
    assert chat.left


async def test_operators_see_which_module_an_import_is_in_and_others_do_not(
    held_back: HeldBack, write: Write
) -> None:
    write("chat_m", "import deep_inside\n" + CHAT)
    write("deep_inside", CHAT)
    startup = an_orchestrator()
    async with serving(deferred("chat_m:app", startup)):
        await until(lambda: bool(held_back.imports))
        await until(lambda: ", now in deep_inside" in str(startup.explain()))
        assert startup.loading is not None
        assert startup.loading.startswith("importing chat_m, ")
        assert "deep_inside" not in startup.loading


async def test_the_conditions_are_in_their_order_and_cannot_be_set_by_others(
    held_back: HeldBack, write: Write
) -> None:
    write("chat_b", CHAT)
    startup = an_orchestrator(conditions=["cache"])
    handle = startup.condition("cache")
    gate = deferred("chat_b:app", startup)
    assert startup.condition("cache") is handle
    assert set(startup.snapshot.conditions) == {"cache", "import", "lifespan"}
    with pytest.raises(DuplicateCondition, match="'import' is declared twice"):
        deferred("chat_b:app", startup)
    async with serving(gate):
        await until(lambda: startup.running)
        await until(lambda: startup.explain().conditions["lifespan"].reason == "after import")
        with pytest.raises(DuplicateCondition, match="held by"):
            startup.condition("import").set(True)
        with pytest.raises(AlreadyStarted, match="declare conditions before"):
            startup.declare("late")
    with pytest.raises(UnknownCondition):
        startup.condition("late")


async def test_a_start_up_that_is_not_loaded_when_the_budget_is_spent_is_not_over(
    held_back: HeldBack, write: Write
) -> None:
    """A platform has to end an import that hangs, and clients come back ever more slowly."""
    write("chat_c", CHAT)
    clock = ManualClock()
    startup = an_orchestrator(clock=clock, policy=Policy(budget_seconds=30))
    gate = deferred("chat_c:app", startup, clock=clock)
    async with serving(gate):
        await until(lambda: bool(held_back.imports))
        await clock.advance(31.0)
        assert startup.latest is not None
        assert startup.latest.current is Stage.DEGRADED
        answer = await get(gate, "/startupz")
        assert answer.status == 503
        assert "importing chat_c, 31.0 s so far" in answer.body.decode()
        assert (await get(gate, "/livez")).status == 200
        refused = await get(gate)
        assert refused.status == 503
        assert 5 <= int(refused.headers["retry-after"]) <= 10
        held_back.go.set()
        await until(lambda: startup.snapshot.conditions["lifespan"].satisfied)
        await clock.advance(10.0)
        assert startup.ready
        assert (await get(gate)).status == 200


async def test_an_import_that_fails_refuses_who_is_held_and_ends_the_process(
    held_back: HeldBack, write: Write, ended: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    write("chat_d", CHAT.replace("from held_back", "raise ValueError('no disk')\nfrom held_back"))
    startup = an_orchestrator()
    gate = deferred("chat_d:app", startup)
    async with serving(gate) as server, anyio.create_task_group() as tasks:
        held = Caller(gate, http_scope())
        tasks.start_soon(held.run)
        await until(lambda: gate.held == 1)
        held_back.go.set()
        with anyio.fail_after(20):
            await server.ended.wait()
        assert held.status == 503
    assert ended == [1]
    assert server.sent[1:] == []  # the server has asked for no shutdown
    assert startup.ended is not None
    told = capsys.readouterr().err
    assert told.count("Traceback") == 1
    assert told.count("ValueError: no disk") == 1
    assert "importlib" not in told
    assert "orchestrator" not in told


@pytest.mark.parametrize(
    ("module", "status", "says"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("import nothing_of_this_name", 1, "No module named"),
        ("app = 3", 1, "is a int, not an ASGI application"),
        ("import asyncio\nasyncio.get_running_loop()", 1, "ORCHESTRATOR_IMPORT=loop"),
        (
            "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)",
            1,
            "ORCHESTRATOR_IMPORT=loop",
        ),
    ],
)
async def test_what_an_import_may_end_with(
    module: str,
    status: int,
    says: str,
    *,
    write: Write,
    ended: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delitem(sys.modules, "uvicorn.server", raising=False)
    monkeypatch.delitem(sys.modules, "gunicorn.workers.base", raising=False)
    write("chat_e", module)
    async with serving(deferred("chat_e:app", an_orchestrator())) as server:
        with anyio.fail_after(20):
            await server.ended.wait()
    assert ended == [status]
    told = capsys.readouterr().err
    assert says in caplog.text + told
    assert (caplog.text + told == "") == (says == "")


@pytest.mark.parametrize(("ends", "status"), [("fails", 3), ("exits", 9)])
async def test_a_lifespan_that_fails_ends_the_process(
    ends: str,
    status: int,
    held_back: HeldBack,
    write: Write,
    ended: list[object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn.server", ModuleType("uvicorn.server"))
    monkeypatch.delitem(sys.modules, "gunicorn.workers.base", raising=False)
    write("chat_f", CHAT)
    held_back.app = chat = Chat(ends)
    chat.go.set()
    held_back.go.set()
    async with serving(deferred("chat_f:app", an_orchestrator())) as server:
        with anyio.fail_after(20):
            await server.ended.wait()
    assert ended == [status]
    assert ("the lifespan of chat_f failed: no disk" in caplog.text) == (ends == "fails")


@pytest.mark.parametrize("ends", ["dies", "fails to shut down"])
async def test_a_lifespan_that_dies_later_or_fails_to_shut_down_is_seen(
    ends: str, held_back: HeldBack, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    held_back.go.set()
    write("chat_g", CHAT)
    held_back.app = chat = Chat(ends)
    chat.go.set()
    startup = an_orchestrator()
    async with serving(deferred("chat_g:app", startup)) as server:
        with anyio.fail_after(20):
            await chat.up.wait()
            if ends == "dies":
                await until(lambda: "ended with ValueError" in str(startup.explain()))
                assert "secret" not in str(startup.explain())
                assert not startup.ready
            else:
                await startup.wait_for(Stage.READY)
    its = "failed" if ends != "dies" else "complete"
    assert server.sent[-1]["type"] == f"lifespan.shutdown.{its}"
    assert ("the lifespan of chat_g ended" in caplog.text) == (ends == "dies")


async def test_a_shutdown_waits_for_no_import(held_back: HeldBack, write: Write) -> None:
    """And the next start-up goes on with it: a module is imported once."""
    write("chat_h", CHAT)
    startup = an_orchestrator()
    gate = deferred("chat_h:app", startup)
    for _ in range(2):
        async with serving(gate) as server:
            await until(lambda: bool(held_back.imports))
        assert server.ended.is_set()
    held_back.go.set()
    async with serving(gate):
        with anyio.fail_after(20):
            await startup.wait_for(Stage.READY)
        assert (await get(gate)).status == 200
    assert held_back.imports == ["chat_h"]


async def test_without_a_lifespan_of_the_server_it_is_loaded_with_the_orchestrator(
    held_back: HeldBack, write: Write
) -> None:
    """As where it is mounted: frameworks pass no lifespan on to what they mount."""
    write("chat_i", CHAT)
    held_back.go.set()
    startup = an_orchestrator()
    gate = deferred("chat_i:app", startup)
    async with startup:
        with anyio.fail_after(20):
            await startup.wait_for(Stage.READY)
        assert (await get(gate)).status == 200


async def test_what_passes_before_the_application_is_there_is_refused(
    held_back: HeldBack, write: Write
) -> None:
    write("chat_j", CHAT)
    clock = ManualClock()
    startup = an_orchestrator(clock=clock)
    gate = deferred("chat_j:app", startup, clock=clock, admit_degraded=True)
    async with serving(gate):
        await clock.advance(31.0)
        for scope in (http_scope(), websocket_scope()):
            caller = Caller(gate, scope)
            await caller.run()
            assert caller.status == 503


async def test_an_application_with_a_gate_of_its_own_holds_nobody_twice(
    held_back: HeldBack, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    inner = Orchestrator(ScriptedProbe(), conditions=["listener"])
    write(
        "chat_k",
        CHAT + "import held_back\nfrom orchestrator.asgi import ReadinessGate\n"
        "app = ReadinessGate(app, held_back.inner, manage_lifespan=True, bypass=['/open'])\n",
    )
    held_back.inner = inner  # type: ignore[attr-defined]  # a module has any
    startup = an_orchestrator()
    other = ReadinessGate(App(), an_orchestrator())  # of this process, but not of the application
    gate = deferred("chat_k:app", startup)
    async with serving(gate), anyio.create_task_group() as tasks:
        early = Caller(gate, http_scope())
        tasks.start_soon(early.run)
        await until(lambda: gate.held == 1)
        held_back.go.set()
        await until(lambda: "own orchestrator is in" in str(startup.explain()))
        assert not startup.ready
        late = Caller(gate, http_scope())
        tasks.start_soon(late.run)
        await settled()
        assert gate.held == 1  # the application's own gate holds the other
        assert (await get(gate, "/open")).status == 200
        assert (await get(gate, "/readyz")).status == 503
        inner.condition("listener").set(True)
        with anyio.fail_after(20):
            await startup.wait_for(Stage.READY)
            await early.done.wait()
            await late.done.wait()
        assert [early.status, late.status] == [200, 200]
        inner.condition("listener").set(False)
        await until(lambda: not startup.ready)
    assert caplog.text.count("chat_k has a gate and an orchestrator of its own") == 1
    assert other.held == 0


async def test_where_the_orchestrator_is_disabled_the_application_is_imported_at_once(
    held_back: HeldBack, write: Write
) -> None:
    write("chat_l", CHAT)
    held_back.go.set()
    held_back.app = chat = Chat()
    chat.go.set()
    gate = deferred("chat_l:app", an_orchestrator(enabled=False))
    assert held_back.imports == ["chat_l"]
    async with serving(gate):
        assert (await get(gate)).status == 200
        assert (await get(gate, "/livez")).status == 200


def test_an_import_string_that_cannot_be_one_says_what_to_write() -> None:
    for text, says in {
        "chat": "did you mean chat:app?",
        "": "such as chat:app",
        ".chat:app": "relative name",
        "chat/main.py:app": "name the module, and not its file",
        "chat.py:app": "name the module, and not its file",
        "chat:app(1)": "module:factory()",
        "chat:": "such as chat:app",
        "1chat:app": "such as chat:app",
        "chat:app:more": "such as chat:app",
        "redis://user:secret@host": "the application is something else",
    }.items():
        with pytest.raises(ValueError, match="such as chat:app") as refused:
            deferred(text, an_orchestrator())
        assert says in str(refused.value), text
        assert "secret" not in str(refused.value)
    with pytest.raises(TypeError, match="the application must be a str, not App"):
        deferred(App(), an_orchestrator())  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="startup must be an Orchestrator"):
        deferred("chat:app", "chat:app")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="import_on is 'main'"):
        deferred("chat:app", an_orchestrator(), import_on="main")  # type: ignore[arg-type]  # wrong on purpose


MADE = """
class api:
    async def app(scope, receive, send): ...
def create_app(debug=False): return api.app
def broken(): return None
def wsgi(environ, start_response): ...
class Flask:
    def __call__(self, environ, start_response): ...
flask = Flask()
def asgi2(scope): ...
nothing = None
"""


def test_an_application_is_found_as_servers_find_it(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write("made_a", MADE)
    for found in ("made_a:api.app", "made_a:create_app()"):
        assert callable(ImportString.parse(found).load())
    assert caplog.text == ""
    assert ImportString.parse("made_a:create_app").load().__name__ == "app"
    assert "write made_a:create_app()" in caplog.text
    for text, says in {
        "made_a:other": "has no 'other' there",
        "made_a:api.other": "has no 'other' there",
        "made_b:app": "no module 'made_b'",
        "made_b.deep:app": "no module 'made_b'",
        "made_a:broken()": "made a NoneType",
        "made_a:nothing": "is a NoneType",
        "made_a:wsgi": "looks like a WSGI application",
        "made_a:flask": "looks like a WSGI application",
        "made_a:asgi2": "takes 1 arguments",
    }.items():
        with pytest.raises(LoadError) as refused:
            ImportString.parse(text).load()
        assert says in str(refused.value), text
        assert refused.value.missing_module == says.startswith("no module")


def test_the_exit_status_is_that_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are compared with the servers themselves where these run."""
    names = "gunicorn.workers.base", "uvicorn.server"
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    seen = {"": [status_of(failed) for failed in Failed]}
    for name in reversed(names):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        seen[name] = [status_of(failed) for failed in Failed]
    assert seen == {
        "": [1, 1, 1, 1],
        "uvicorn.server": [3, 3, 1, 3],
        "gunicorn.workers.base": [3, 4, 3, 3],
    }


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
