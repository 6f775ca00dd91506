"""The service of the soak, those who watch it, and what they have seen."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import redis
import redis.asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from orchestrator import Observer, Orchestrator, Stage, StageChanged
from orchestrator._http.asgi_types import Receive, Scope, Send
from states import Fact


@dataclass
class Report:
    """What a soak has seen.

    Attributes:
        faults: How often Redis was treated in each way.
        stages: How often each stage was entered.
        closes: The close codes and refusals that clients saw.
        echoes: The messages that came back.
        complaints: What is not as it must be.
        figures: Memory, descriptors and counts, by name.
    """

    faults: Counter[str] = field(default_factory=Counter)
    stages: Counter[Stage] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    echoes: int = 0
    complaints: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def require(self, name: str, seen: float, wanted: float) -> None:
        """Note a number, and complain if it is another one."""
        self.figures[name] = seen
        if seen != wanted:
            self.complaints.append(f"{name}: {seen}, not {wanted}")

    def __str__(self) -> str:
        parts = [
            f"faults: {dict(self.faults)}",
            f"stages: { {str(stage): number for stage, number in self.stages.items()} }",
            f"clients: {self.echoes} echoes, {dict(self.closes)}",
            *(f"{name}: {value:g}" for name, value in self.figures.items()),
            *(f"NOT AS IT MUST BE: {complaint}" for complaint in self.complaints),
        ]
        return "\n".join(parts)


# -- the service ----------------------------------------------------------------------------------


class Chat:
    """An application that needs its listener: without it a handler fails, and its client too."""

    def __init__(self, startup: Orchestrator, url: str) -> None:
        self._startup = startup
        self._redis = redis.asyncio.from_url(url, socket_timeout=0.5, protocol=2)
        self.listening = False
        self.let_in_too_late = 0

    async def listen(self) -> None:
        """Subscribe again and again; the condition is true exactly while it listens."""
        condition = self._startup.condition("listener")
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe("chat")
                    self.listening = True
                    with condition:
                        while True:
                            # A time limit of its own, as on a frozen server nothing else ends it.
                            await subscription.get_message(timeout=0.1)
                            await self._redis.ping()
            except (redis.RedisError, OSError):
                pass
            finally:
                self.listening = False
            await anyio.sleep(0.02)

    def _is_deaf(self) -> bool:
        return not self.listening

    async def aclose(self) -> None:
        """Let go of its connections."""
        await self._redis.connection_pool.disconnect()  # redis-py 5.0.0 has no aclose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Echo, and tell clients to come back later when Redis goes away under them."""
        assert scope["type"] == "websocket"
        await receive()
        if self._is_deaf():
            # The listener has gone in this very moment: before the driver has run, so the stage is
            # still ready. No gate can do better than the moment in which it decides.
            self.let_in_too_late += 1
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if self._is_deaf():
                await send({"type": "websocket.close", "code": 1013})
                return
            await send({"type": "websocket.send", "text": message["text"]})


class Ledger(Observer):
    """Counts every transition, and remembers the row of them."""

    def __init__(self) -> None:
        self.row: list[StageChanged] = []

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        if changed is not None:
            self.row.append(changed)


class Spans(SpanExporter):
    """Counts what it is given and keeps nothing, so that memory can be compared."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.roots: Counter[str] = Counter()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            self.events.update(event.name for event in span.events)
            self.roots[span.name] += 1
        return SpanExportResult.SUCCESS


class Subscriber:
    """Reads every event; a slow one dawdles over each."""

    def __init__(self, startup: Orchestrator, dawdle_seconds: float) -> None:
        self._events = startup.subscribe()
        self._dawdle_seconds = dawdle_seconds
        self.row: list[StageChanged] = []

    async def read(self) -> None:
        """Until the orchestrator is left."""
        async for event in self._events:
            self.row.append(event)
            await anyio.sleep(self._dawdle_seconds)


class Errors(logging.Handler):
    """Keeps what is logged as an error; a service that is treated badly has no reason for any."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
