"""What the gate without a line of code makes of its environment."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator, Stage
from orchestrator.asgi import ReadinessGate
from orchestrator.auto import create_app
from orchestrator.fleet import Fleet
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.settings import SettingsError
from tests.asgi.gate_support import Caller, http_scope

ROOT = Path(__file__).parents[2]
CHAT = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""

pytestmark = pytest.mark.anyio


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    (tmp_path / "auto_chat.py").write_text(CHAT)
    monkeypatch.syspath_prepend(tmp_path)
    yield {"ORCHESTRATOR_APP": "auto_chat:app"}
    sys.modules.pop("auto_chat", None)


def startup_of(gate: object) -> Orchestrator:
    assert isinstance(gate, ReadinessGate)
    return gate._startup


async def test_without_redis_the_service_is_ready_once_it_is_loaded(
    chat: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    gate = create_app(chat)
    assert "neither REDIS_URL nor ORCHESTRATOR_REDIS_URL is set" in caplog.text
    assert len(caplog.records) == 1
    startup = startup_of(gate)
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=30)
        assert "redis" not in str(startup.account().as_json()), "none is asked"
        caller = Caller(gate, http_scope())
        await caller.run()
        assert caller.body == b"hello"


@pytest.mark.parametrize("pod", [True, False])
async def test_each_variable_has_its_effect(chat: dict[str, str], pod: bool) -> None:
    environ = {
        "ORCHESTRATOR_POD": str(pod),
        "REDIS_URL": "redis://127.0.0.1:1",
        "ORCHESTRATOR_MAX_HELD": "0",
        "ORCHESTRATOR_HEALTH_DETAILS": "true",
        "ORCHESTRATOR_BUDGET_SECONDS": "7",
        "ORCHESTRATOR_CHECKS": "port=tcp://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    }
    gate = create_app({**chat, **environ})
    startup = startup_of(gate)
    assert startup.policy.budget_seconds == 7
    assert set(startup.snapshot.conditions) == {"port", "import", "lifespan"}
    assert [type(one) for one in startup.observers] == [OpenTelemetryObserver]
    async with startup:
        health, refused = Caller(gate, http_scope("/readyz")), Caller(gate, http_scope())
        await health.run()
        assert b'"conditions":' in health.body
        assert (b'"pod":' in health.body) is pod
        await refused.run()
        assert refused.status == 503
        assert b"too many clients" in refused.body


def test_the_instance_is_published_where_the_environment_says_so(
    chat: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {**chat, "ORCHESTRATOR_FLEET": "true"}
    with pytest.raises(SettingsError, match="ORCHESTRATOR_FLEET is 'true'; it must be false where"):
        create_app(environ)
    environ["REDIS_URL"] = "redis://127.0.0.1:1"
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match=r"^ORCHESTRATOR_FLEET: nothing names the service"):
        create_app(environ)
    monkeypatch.setenv("ORCHESTRATOR_FLEET_SERVICE", "chat")
    (fleet,) = startup_of(create_app(environ)).observers
    assert isinstance(fleet, Fleet)
    assert fleet.service == "chat"


async def test_the_page_is_in_front_of_the_gate(chat: dict[str, str]) -> None:
    page = Caller(create_app({**chat, "ORCHESTRATOR_PAGE": "/up"}), http_scope("/up/state"))
    await page.run()
    assert b'"stage":"booting"' in page.body


def test_the_rollback_works_whatever_else_is_set(chat: dict[str, str]) -> None:
    environ = {"ORCHESTRATOR_ENABLED": "false", "REDIS_URL": "nonsense"}
    gate = create_app({**chat, **environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert "auto_chat" in sys.modules  # as without a gate
    assert startup_of(gate).observers == ()


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("", "ORCHESTRATOR_APP is ''; it must be the application, such as chat:app"),
        ("chat", "ORCHESTRATOR_APP is 'chat'; it must be module:attribute, .* mean chat:app?"),
        ("redis://:secret@x", "ORCHESTRATOR_APP is set to something else; it must be module:attr"),
    ],
)
def test_what_names_no_application_is_one_clear_line(app: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        create_app({"ORCHESTRATOR_APP": app})
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_module_can_be_imported_without_an_application_and_says_what_is_missing() -> None:
    code = """
import orchestrator.auto
try:
    orchestrator.auto.app
except ValueError as error:
    print(error)
print(hasattr(orchestrator.auto, "other"))
"""
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )
    assert done.stdout.splitlines() == [
        "ORCHESTRATOR_APP is ''; it must be the application, such as chat:app",
        "False",
    ]
