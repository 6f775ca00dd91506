"""What the application says: the names and reasons of conditions, failures, targets."""

import contextlib
import json

import anyio
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator import Failure, FailureKind, Orchestrator, Probe, ProbeResult, Target
from orchestrator._hardening.text import one_line, reason_of
from orchestrator._http.asgi_types import Message, Scope
from orchestrator._http.responses import as_json
from orchestrator.asgi import health_app
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.web import web_app
from tests.fuzz.subject import PLANTED, Lines, Subject, assert_is_a_line, listening

_anything = st.text(st.characters(exclude_categories=()), max_size=30)
texts = st.one_of(
    _anything,
    st.builds(lambda text, times: text * times, _anything, st.integers(1, 50_000)),
    st.sampled_from(["\ud800", "\x1b]52;c;\x07", "a\u202eb", "\r\n\x85\u2028", "\0", " " * 9000]),
)


class _Odd:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        raise ValueError(self._text)


reasons: st.SearchStrategy[object] = st.one_of(
    texts,
    st.binary(max_size=40),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts.map(ValueError),
    st.builds(_Odd, texts),
    st.lists(st.just(PLANTED), max_size=2),
    st.just(10**5000),
)


def _clean(_: object, reason: object) -> None:
    for most in (40, 500):
        kept = reason_of(reason, most)
        assert_is_a_line(kept, most)
        assert reason_of(kept, most) == kept
        if isinstance(reason, str):
            assert_is_a_line(one_line(reason, most), most)
        else:
            assert PLANTED not in kept


class _Failing(Probe):
    """Says once what it likes, and then that all is well."""

    def __init__(self, text: str) -> None:
        self._texts = [text]

    @property
    def target(self) -> Target:
        return Target(address=self._texts[0] if self._texts else "")

    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        await anyio.lowlevel.checkpoint()
        if not self._texts:
            return ProbeResult(0.0)
        text = self._texts.pop()
        return ProbeResult(0.0, Failure(FailureKind.TRANSIENT, text, text))


async def _body(startup: Orchestrator, path: str, page: object = None) -> bytes:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "path": path, "method": "GET", "headers": [], "root_path": ""}
    app = health_app(startup, details=True) if page is None else page
    await app(scope, receive, send)  # type: ignore[operator]  # a page is an application too
    return b"".join(message.get("body", b"") for message in sent)


async def _live(name: str, text: str, reason: object) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    observer = OpenTelemetryObserver(tracer_provider=provider)
    try:
        startup = Orchestrator(_Failing(text), conditions=[name], observers=[observer])
    except ValueError as refused:
        assert_is_a_line(str(refused))
        return
    page = web_app(startup)
    async with startup:
        condition = startup.condition(name)
        condition.set(False, reason=reason)  # type: ignore[arg-type]  # that is the point
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(30):
            while not startup.explain().attempts:
                await anyio.lowlevel.checkpoint()
        for body in (
            await _body(startup, "/livez"),
            await _body(startup, "/readyz"),
            await _body(startup, "/state", page),
        ):
            assert len(body) < 20_000
            assert isinstance(json.loads(body), dict)
            body.decode()
        for line in str(startup.explain()).split("\n"):
            assert_is_a_line(line, 1000)
        condition.set(True)
    encode_spans(memory.get_finished_spans()).SerializeToString()


def _tell(lines: Lines, said: tuple[str, str, object]) -> None:
    anyio.run(_live, *said)
    lines.check()


def _encode(_: object, value: dict[str, object]) -> None:
    assert json.loads(as_json(value)) == value


SUBJECTS = (
    Subject("reasons", reasons, contextlib.nullcontext, _clean),
    Subject(
        "names, failures and reasons of a service",
        st.tuples(st.one_of(texts, st.text(max_size=8)), texts, reasons),
        listening,
        _tell,
    ),
    Subject(
        "bodies of JSON",
        st.dictionaries(texts, st.one_of(texts, st.integers(), st.lists(texts, max_size=2))),
        contextlib.nullcontext,
        _encode,
    ),
)
