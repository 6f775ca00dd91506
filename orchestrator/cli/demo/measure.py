"""One run of the demo: Redis, the service, the clients, and an outage."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.cli.demo.choices import DemoOptions
from orchestrator.cli.demo.clients import ClientCounts, run_clients, stay_until_closed
from orchestrator.cli.demo.embedded_redis import HOST, EmbeddedRedis
from orchestrator.cli.demo.figures import ABNORMAL_CLOSURE, SERVICE_RESTART, RunFigures
from orchestrator.cli.demo.live_view import DemoLines
from orchestrator.cli.demo.record import Record
from orchestrator.cli.demo.reports import Protection, ServiceOptions, SpanReport, StageReport
from orchestrator.cli.demo.service_process import ServiceProcess
from states import Stage

_REFRESH_SECONDS = 0.1
_CALM_SECONDS = 1.0
_OUTAGE_SECONDS = 1.5
"""Pauses before the outage and in it, long enough for a person to see both."""

_DRAINS = (Protection.GATE, Protection.FULL)
_STAYING = 50
"""The clients that are inside when the service ends."""

STAGE_TIMEOUT_SECONDS = 60.0

TITLES = {
    Protection.GATE: "with the gate",
    Protection.NONE: "without a gate",
    Protection.SLEEP: "with a blocking sleep of 500 ms",
    Protection.FULL: "with the gate, checks and tasks",
}


class DemoRun:
    """One run, from no process at all to no process at all.

    Args:
        gate: How early clients are protected.
        options: What is asked for.
        binary: The redis-server program.
        directory: A temporary directory of this run's own.
        view: Who shows it.
    """

    def __init__(
        self, gate: Protection, options: DemoOptions, binary: str, directory: Path, view: DemoLines
    ) -> None:
        self._gate = gate
        self._options = options
        self._binary = binary
        self._directory = directory
        self._view = view
        self._record = Record(gate, options.connections, view)
        self.last_words = ""

    @property
    def figures(self) -> RunFigures:
        """What was measured; complete once it has run."""
        return self._record.figures

    @property
    def spans(self) -> list[SpanReport]:
        """The spans that the service made."""
        return self._record.spans

    async def __call__(self) -> None:
        """Run it.

        Raises:
            DemoError: When it cannot go on.
        """
        redis = EmbeddedRedis(self._binary, self._directory)
        service = ServiceProcess(
            self._service_options(redis),
            self._directory / "service.log",
            self._record.heard,
        )
        try:
            async with self._shown():
                await self._acts(redis, service)
        finally:
            self.last_words = service.last_words()
            service.kill()
            redis.close()
        self._record.conclude()

    def _service_options(self, redis: EmbeddedRedis) -> ServiceOptions:
        return ServiceOptions(
            gate=self._gate,
            redis_url=f"redis://{HOST}:{redis.port}/0",
            port=self._options.port,
            settle_seconds=self._options.settle_seconds,
            grace_seconds=self._options.grace_seconds,
        )

    async def _acts(self, redis: EmbeddedRedis, service: ServiceProcess) -> None:
        pid, started_at = await service.start()
        self._record.live.started_at = started_at
        self._record.say(started_at, f"the service starts (process {pid}); Redis does not run yet")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._launch_late(redis))
            await service.until(
                lambda: self._record.port is not None, STAGE_TIMEOUT_SECONDS, "its port was open"
            )
            await self._clients()
        if self._gate is Protection.GATE:
            await self._until_stage(service, Stage.READY, after=0)
            if self._options.outage:
                await self._outage(redis, service)
        await self._end(service)

    async def _end(self, service: ServiceProcess) -> None:
        """The service drains: clients that stay are closed one by one, and none is dropped."""
        self._record.ending = True
        if self._gate in _DRAINS and self._record.port is not None:
            closes, inside = Counter[int](), asyncio.Event()
            staying = min(self._options.connections, _STAYING)
            async with asyncio.TaskGroup() as tasks:
                port = self._record.port
                tasks.create_task(stay_until_closed(port, staying, closes, inside.set))
                await inside.wait()
                self._record.say(time.monotonic(), f"{staying} clients stay; the service drains")
                await service.stop()
            self._record.figures.drained = {str(code): n for code, n in sorted(closes.items())}
            restarted = closes[SERVICE_RESTART]
            self._record.say(
                time.monotonic(),
                f"{restarted} of {staying} closed with {SERVICE_RESTART},"
                f" {closes[ABNORMAL_CLOSURE]} with {ABNORMAL_CLOSURE}",
                "good" if restarted == staying else "bad",
            )
        else:
            await service.stop()

    async def _launch_late(self, redis: EmbeddedRedis) -> None:
        launch_at = self._record.live.started_at + self._options.redis_delay_seconds
        await asyncio.sleep(launch_at - time.monotonic())
        await self._launch_redis(redis)

    async def _launch_redis(self, redis: EmbeddedRedis) -> None:
        redis.launch()
        up_at = await redis.answered()
        self._record.live.redis_up = True
        self._record.figures.redis_up_seconds = self._record.since_start(up_at)
        self._record.say(up_at, f"Redis answers (process {redis.pid})", "good")

    async def _clients(self) -> None:
        tally = self._record.live.tally
        assert self._record.port is not None
        await run_clients(self._record.port, tally)
        style = "good" if tally.served == tally.clients else "bad"
        lost = "" if style == "good" else f"; {tally.failed} lost"
        self._record.say(
            time.monotonic(), f"{tally.served} of {tally.clients} clients served{lost}", style
        )

    async def _outage(self, redis: EmbeddedRedis, service: ServiceProcess) -> None:
        await asyncio.sleep(_CALM_SECONDS)
        seen = len(self._record.stages)
        killed_at = redis.kill()
        self._record.live.redis_up = False
        self._record.say(killed_at, "Redis is killed (SIGKILL)", "bad")
        degraded = await self._until_stage(service, Stage.DEGRADED, after=seen)
        self._record.figures.kill_to_degraded_seconds = degraded.at - killed_at
        await asyncio.sleep(_OUTAGE_SECONDS)
        seen = len(self._record.stages)
        redis.launch()
        up_at = await redis.answered()
        self._record.live.redis_up = True
        self._record.say(up_at, f"Redis answers again (process {redis.pid})", "good")
        grace = await self._until_stage(service, Stage.GRACE, after=seen)
        ready = await self._until_stage(service, Stage.READY, after=seen)
        # Both sides ask Redis on their own; the service may well be the first to hear from it.
        self._record.figures.restart_to_grace_seconds = max(0.0, grace.at - up_at)
        self._record.figures.restart_to_ready_seconds = max(0.0, ready.at - up_at)
        await self._one_more_client()

    async def _one_more_client(self) -> None:
        assert self._record.port is not None
        tally = ClientCounts(clients=1)
        await run_clients(self._record.port, tally)
        self._record.figures.served_after_recovery = tally.served == 1
        words, style = ("is served", "good") if tally.served else ("is not served", "bad")
        self._record.say(time.monotonic(), f"a client that comes now {words}", style)

    async def _until_stage(
        self, service: ServiceProcess, stage: Stage, *, after: int
    ) -> StageReport:
        """Wait for a stage to be entered, or to have been, after that many changes of stage."""

        def found() -> list[StageReport]:
            return [seen for seen in self._record.stages[after:] if seen.current == stage]

        await service.until(lambda: bool(found()), STAGE_TIMEOUT_SECONDS, f"{stage} was seen")
        return found()[0]

    # -- around it ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _shown(self) -> AsyncGenerator[None]:
        async def refresh() -> None:
            while True:
                await asyncio.sleep(_REFRESH_SECONDS)
                self._view.refresh()

        self._view.begin(self._record.live, TITLES[self._gate])
        refreshing = asyncio.create_task(refresh())
        try:
            yield
        except ExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing
            self._view.end()


def _first(errors: ExceptionGroup) -> Exception:
    """One of the errors that ended the tasks of a run: they have the same cause."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
