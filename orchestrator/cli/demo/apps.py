"""The demo's application, once for each way of protecting early clients."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.types import ASGIApp

from orchestrator import Observer, Orchestrator, Policy, Task
from orchestrator._core.explanation import cause_in_words
from orchestrator.asgi import ReadinessGate, health_app
from orchestrator.cli.demo.chat import Chat, block_until_redis_answers
from orchestrator.cli.demo.reports import (
    DemoReport,
    ListenerReport,
    Protection,
    ServiceOptions,
    StageReport,
    Status,
)
from orchestrator.cli.demo.tracing import Tracing
from orchestrator.otel import OpenTelemetryGateMetrics, OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from states import ConditionChanged, Fact, StageChanged

CONDITION = "chat-listener"

_BUDGET_SECONDS = 60.0
"""As on Google Cloud, where Redis may be this late."""

SendReport = Callable[[DemoReport], None]


class Service(Protocol):
    """What the demo's server runs."""

    app: ASGIApp

    def status(self, max_loop_stall_seconds: float) -> Status:
        """How it is now."""
        ...

    async def drain(self) -> None:
        """End the work, before the server ends."""
        ...

    def close(self) -> None:
        """Flush what is still to be sent, after the event loop has ended."""
        ...


def make_service(options: ServiceOptions, send: SendReport) -> Service:
    """The application with the gate that the options name."""
    if options.gate == Protection.FULL:
        from orchestrator.cli.demo.full.full_service import (
            FullService,
        )  # the others need none of it

        return FullService(options, send)
    return Gated(options, send) if options.gate == Protection.GATE else Ungated(options, send)


def policy_of(options: ServiceOptions) -> Policy:
    """The policy of the demo's services."""
    return Policy(
        budget_seconds=_BUDGET_SECONDS,
        grace_seconds=options.grace_seconds,
        drain_close_seconds=0.5,
        drain_limit_seconds=2.0,
    )


class GatedService(ABC):
    """With an orchestrator and the readiness gate. Subclass it and make both.

    Args:
        options: What the service is given.
        send: Takes the reports.
    """

    def __init__(self, options: ServiceOptions, send: SendReport) -> None:
        self._tracing = Tracing(send)
        self._chat = Chat(options.redis_url, options.settle_seconds)
        self._startup = self._make_startup(options, send)
        self._gate = self._make_gate()
        self.app: ASGIApp = self._gate

    @abstractmethod
    def _make_startup(self, options: ServiceOptions, send: SendReport) -> Orchestrator:
        """The orchestrator; the chat is there already."""

    @abstractmethod
    def _make_gate(self) -> ReadinessGate:
        """The gate, around an application with `_lifespan`."""

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        # Nothing is waited for: the port opens at once, and the gate decides.
        async with self._chat.connected(), self._startup:
            try:
                yield
            finally:
                self._startup.stop()  # a task that ends with its service is no outage

    def status(self, max_loop_stall_seconds: float) -> Status:
        """How it is now."""
        explained = self._startup.explain()
        failure = explained.last_failure
        counts = self._gate.counts
        return Status(
            at=time.monotonic(),
            max_loop_stall_seconds=max_loop_stall_seconds,
            stage=explained.stage,
            attempts=explained.attempts,
            last_failure=failure.reason if failure else "",
            waits_for=list(explained.waits_for),
            held=self._gate.held,
            admitted=counts.admitted,
            refused=counts.refused + counts.overflow + counts.timed_out,
        )

    async def drain(self) -> None:
        """Close those who stay, one by one."""
        await self._startup.drain("the demo ends")

    def close(self) -> None:
        """Flush the spans."""
        self._tracing.close()


class Gated(GatedService):
    """The chat, which needs Redis and its background task."""

    def _make_startup(self, options: ServiceOptions, send: SendReport) -> Orchestrator:
        return Orchestrator(
            RedisProbe(options.redis_url),
            policy=policy_of(options),
            conditions=[Task(CONDITION, self._chat.listen, after=["redis"])],
            observers=[
                StageReporter(send),
                _ListenerReporter(send),
                OpenTelemetryObserver(tracer_provider=self._tracing.provider),
            ],
        )

    def _make_gate(self) -> ReadinessGate:
        startup = self._startup
        chat = Starlette(
            routes=[WebSocketRoute("/chat", self._chat.handle), Mount("/", health_app(startup))],
            lifespan=self._lifespan,
        )
        return ReadinessGate(chat, startup, metrics=OpenTelemetryGateMetrics())


class Ungated:
    """Without one: the background task is started, and the port opens whether it is up or not."""

    def __init__(self, options: ServiceOptions, send: SendReport) -> None:
        self._options = options
        self._send = send
        self._chat = Chat(options.redis_url, options.settle_seconds, self._while_up)
        self.app: ASGIApp = Starlette(
            routes=[WebSocketRoute("/chat", self._chat.handle)], lifespan=self._lifespan
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        async with self._chat.running():
            if self._options.gate == Protection.SLEEP:
                block_until_redis_answers(self._options.redis_url)
            yield

    @contextmanager
    def _while_up(self) -> Generator[None]:
        self._send(ListenerReport(time.monotonic(), up=True))
        try:
            yield
        finally:
            self._send(ListenerReport(time.monotonic(), up=False))

    def status(self, max_loop_stall_seconds: float) -> Status:
        """How it is now: it has no stage."""
        return Status(time.monotonic(), max_loop_stall_seconds)

    async def drain(self) -> None:
        """There is nothing that could."""

    def close(self) -> None:
        """Nothing is left to send."""


class StageReporter(Observer):
    """Tells the demo of each change of the stage."""

    def __init__(self, send: SendReport) -> None:
        self._send = send

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Report it."""
        if changed is not None:
            self._send(
                StageReport(
                    at=changed.at,
                    previous=changed.previous,
                    current=changed.current,
                    elapsed_seconds=changed.elapsed_seconds,
                    cause=cause_in_words(changed, "Redis"),
                )
            )


class _ListenerReporter(Observer):
    """Tells the demo whether the background task is up."""

    def __init__(self, send: SendReport) -> None:
        self._send = send
        self._up = False

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Report what changes of it."""
        if isinstance(fact, ConditionChanged) and fact.satisfied is not self._up:
            self._up = fact.satisfied
            self._send(ListenerReport(fact.at, fact.satisfied, fact.reason))
