"""Reasons and names of any kind: health, pages, log and spans go on, and show one line each."""

import json
import logging
from collections.abc import Iterator, Sequence

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator import Explanation, Failure, FailureKind, Orchestrator, Probe, ProbeResult, Stage
from orchestrator._http.asgi_types import ASGIApp
from orchestrator.asgi import health_app
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.testing import ScriptedProbe
from orchestrator.web import web_app

pytestmark = pytest.mark.anyio

EVIL = "\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b31m\nready -> degraded after 1.000 s: FORGED\u202e\u2028"

REASONS: dict[str, object] = {
    "escape sequences and a forged line": EVIL,
    "a bad byte of a file's name": "cannot open \udcff.db",
    "an exception": ValueError("x"),
    "nothing": None,
    "bytes": b"\xff\x1b",
    "a number": 5,
    "NUL": "a\0b",
    "10 MB": "x" * 10_000_000,
    "10 MB of line breaks": "\n" * 10_000_000,
    "JSON": '"}],"stage":"ready"',
}


class Spans:
    """A provider's spans, each of which must be fit to be exported."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))

    def check(self) -> None:
        spans: Sequence[ReadableSpan] = self._memory.get_finished_spans()
        assert spans
        assert len(encode_spans(spans).SerializeToString()) < 100_000


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every record of a test must be one printable line."""
    with caplog.at_level(logging.DEBUG):
        yield
    messages = [record.getMessage() for record in caplog.get_records("call")]
    assert messages
    assert [one for one in messages if not one.isprintable() or len(one) > 2000] == []


async def got(app: ASGIApp, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.get(path)


async def check(startup: Orchestrator, page: ASGIApp) -> None:
    """Ask everything that tells of a service, and look at how it is told."""
    health = health_app(startup, details=True)
    assert (await got(health, "/livez")).status_code == 200
    for app, path in ((health, "/livez"), (health, "/readyz"), (page, "/state")):
        answer = await got(app, path)
        assert len(answer.content) < 5000
        answer.content.decode()
        assert answer.text.isprintable(), path
        assert answer.json()["stage"] == startup.stage, path
    told = str(startup.explain())
    assert all(line.isprintable() and len(line) < 2000 for line in told.splitlines())
    assert not any(line.startswith("ready -> degraded") for line in told.splitlines())


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
async def test_a_reason_of_any_kind_harms_nothing_that_tells_of_it(reason: object) -> None:
    spans = Spans()
    observer = OpenTelemetryObserver(tracer_provider=spans.provider)
    startup = Orchestrator(ScriptedProbe(), conditions=["cache"], observers=[observer])
    page = web_app(startup)
    async with startup:
        cache = startup.condition("cache")
        cache.set(True)
        await startup.wait_for(Stage.READY)
        cache.set(False, reason=reason)  # type: ignore[arg-type]  # that is the point
        await startup.wait_for(Stage.DEGRADED)
        await check(startup, page)
        cache.set(True)
        await startup.wait_for(Stage.READY)
    spans.check()


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize(
    "name", [EVIL[:80], "\udcff", "a\0b", "größer", '"},{"', "x" * 100], ids=range(6)
)
async def test_a_name_of_any_kind_harms_nothing_that_tells_of_it(name: str) -> None:
    spans = Spans()
    observer = OpenTelemetryObserver(tracer_provider=spans.provider)
    startup = Orchestrator(ScriptedProbe(), conditions=[name], observers=[observer])
    page = web_app(startup)
    async with startup:
        with startup.condition(name):
            await startup.wait_for(Stage.READY)
            await check(startup, page)
        await startup.wait_for(Stage.DEGRADED)
        await check(startup, page)
    spans.check()


class Saying(Probe):
    """Fails with a reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        failure = Failure(FailureKind.PERMANENT, self._reason, self._reason)
        return ProbeResult(0.0, failure)


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize("reason", [EVIL, "\udcff", "x" * 10_000_000, ""], ids=range(4))
async def test_what_a_probe_says_harms_nothing_that_tells_of_it(reason: str) -> None:
    spans = Spans()
    observer = OpenTelemetryObserver(tracer_provider=spans.provider)
    startup = Orchestrator(Saying(reason), observers=[observer])
    page = web_app(startup)
    async with startup:
        await startup.wait_for(Stage.DEGRADED)
        await check(startup, page)
    spans.check()


class Unspeakable(Orchestrator):
    def explain(self) -> Explanation:
        raise RuntimeError("of all that is told, nothing works")


async def test_livez_depends_on_nothing_that_can_raise() -> None:
    startup = Unspeakable(ScriptedProbe())
    async with startup:
        await startup.wait_for(Stage.READY)
        for path in ("/livez", "/readyz", "/startupz"):
            answer = await got(health_app(startup, details=True), path)
            assert (answer.status_code, json.loads(answer.content)["status"]) == (200, "pass")


@pytest.mark.parametrize(
    "title", [EVIL, "\udcff", "</title><script>alert(1)</script>", "x" * 10**6]
)
async def test_a_page_has_a_title_of_any_kind(title: str) -> None:
    answer = await got(web_app(Orchestrator(ScriptedProbe()), title=title), "/")
    assert answer.status_code == 200
    shown = answer.text.partition("<title>")[2].partition("</title>")[0]
    assert shown.isprintable()
    assert len(shown) < 200
    assert "<script" not in shown
