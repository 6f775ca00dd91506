"""The run of `demo --full`: all that the service depends on comes late, and falls in turn."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.cli.demo.choices import DemoOptions
from orchestrator.cli.demo.clients import ClientCounts, run_clients
from orchestrator.cli.demo.embedded_redis import HOST, EmbeddedRedis
from orchestrator.cli.demo.full.dependencies import Postgres, Upstream, answers, find_postgres
from orchestrator.cli.demo.full.falls import (
    CHECK_INTERVAL_SECONDS,
    STALE_SECONDS,
    FallFigure,
    FullFigures,
    promised_of_a_check,
    promised_of_a_connection,
    promised_of_a_task,
    struck_by,
)
from orchestrator.cli.demo.full.full_service import (
    DATABASE,
    HANG,
    LISTENER,
    OUTBOX,
    PAGE,
    UPSTREAM,
)
from orchestrator.cli.demo.live_view import DemoLines
from orchestrator.cli.demo.measure import STAGE_TIMEOUT_SECONDS, DemoRun
from orchestrator.cli.demo.record import Record
from orchestrator.cli.demo.reports import (
    AccountReport,
    ConditionReport,
    DemoReport,
    OrderReport,
    Protection,
    ServiceOptions,
)
from orchestrator.cli.demo.service_process import ServiceProcess
from states import Policy, Stage

_DATABASE_LATE_SECONDS = 1.5
_WARM_UP_SECONDS = 2.0
_WARM_AGAIN_SECONDS = 0.3
_PAUSE_SECONDS = 0.5
"""Before each fall, and in it: long enough for a person to see both."""

_CLIENTS = 10
_SPREAD_SECONDS = 0.5
_GARBAGE = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nchat\r\n$3\r\n???\r\n"
"""A message that the listener cannot read, which ends it."""


@dataclass(frozen=True, slots=True)
class Fall:
    """Something that falls.

    Attributes:
        name: What, as it is shown.
        how: How, for a person.
        strike: Makes it fall; returns when.
        restore: Brings it back.
        promised_seconds: How soon the service must know it.
        condition: The condition that tells; the stage tells where this is empty.
    """

    name: str
    how: str
    strike: Callable[[], Awaitable[float]]
    restore: Callable[[], Awaitable[None]]
    promised_seconds: float
    condition: str = ""


class FullRecord(Record):
    """Keeps what is reported of conditions, too."""

    def __init__(self, connections: int, view: DemoLines) -> None:
        super().__init__(Protection.FULL, connections, view)
        self.figures: FullFigures = FullFigures(Protection.FULL, connections)
        self.conditions: list[ConditionReport] = []

    def heard(self, report: DemoReport) -> None:
        """Take a report of the service."""
        match report:
            case ConditionReport():
                was_up = any(one.holds for one in self.conditions if one.name == report.name)
                self.conditions.append(report)
                if report.holds:
                    self.say(report.at, f"{report.name} holds", "good")
                elif not self.ending:
                    why = f": {report.reason}" if report.reason else ""
                    verb = "is lost" if was_up else "does not hold"
                    self.say(report.at, f"{report.name} {verb}{why}", "bad" if was_up else "")
            case OrderReport():
                for name, after in report.after.items():
                    self.say(report.at, f"order: {name} comes after {', '.join(after)}")
            case AccountReport():
                if not self.figures.account:
                    self.figures.account = report.line
                    self.say(report.at, f"the start: {report.line}")
            case _:
                super().heard(report)


class FullRun(DemoRun):
    """One run with all of it, from no process at all to no process at all.

    Args:
        options: What is asked for.
        binary: The redis-server program.
        directory: A temporary directory of this run's own.
        view: Who shows it.
    """

    def __init__(self, options: DemoOptions, binary: str, directory: Path, view: DemoLines) -> None:
        super().__init__(Protection.FULL, options, binary, directory, view)
        self._record: FullRecord = FullRecord(options.connections, view)
        self._upstream = Upstream(directory / "upstream.log")
        self._postgres: Postgres | None = None
        programs = find_postgres()
        if programs is None:
            self._record.figures.without = "PostgreSQL is not installed: the demo goes on without"
        else:
            try:
                self._postgres = Postgres(programs, directory / "postgres")
            except KeyError:
                self._record.figures.without = "PostgreSQL does not run as root: it is left out"

    @property
    def figures(self) -> FullFigures:
        """What was measured; complete once it has run."""
        return self._record.figures

    async def __call__(self) -> None:
        """Run it.

        Raises:
            DemoError: When it cannot go on.
        """
        try:
            if self._postgres is not None:
                await self._postgres.prepare()
            await super().__call__()
        finally:
            self._upstream.close()
            if self._postgres is not None:
                self._postgres.close()

    def _service_options(self, redis: EmbeddedRedis) -> ServiceOptions:
        url = self._postgres.url if self._postgres is not None else ""
        options = super()._service_options(redis)
        return replace(options, database_url=url, upstream_url=self._upstream.url)

    async def _acts(self, redis: EmbeddedRedis, service: ServiceProcess) -> None:
        pid, started_at = await service.start()
        record = self._record
        record.live.started_at = started_at
        record.say(started_at, f"the service starts (process {pid}); nothing else runs yet")
        if record.figures.without:
            record.say(started_at, record.figures.without)
        await service.until(
            lambda: record.port is not None, STAGE_TIMEOUT_SECONDS, "its port was open"
        )
        record.say(time.monotonic(), f"its page: http://{HOST}:{record.port}{PAGE}")
        async with asyncio.TaskGroup() as tasks:
            for launched in (self._redis(redis), self._warm_upstream(), self._database()):
                tasks.create_task(launched)
            await self._clients()
        await self._until_stage(service, Stage.READY, after=0)
        if self._options.outage:
            for fall in self._planned_falls(redis, pid):
                await self._live_through(fall, service)
        await self._end(service)

    # Late after the port has opened, however long the service's imports took.

    async def _redis(self, redis: EmbeddedRedis) -> None:
        await asyncio.sleep(self._options.redis_delay_seconds)
        await self._launch_redis(redis)

    async def _warm_upstream(self) -> None:
        self._upstream.launch(_WARM_UP_SECONDS)
        says = f"the HTTP service answers 503 for {_WARM_UP_SECONDS:g} s"
        self._record.say(time.monotonic(), says)

    async def _database(self) -> None:
        if self._postgres is not None:
            await asyncio.sleep(_DATABASE_LATE_SECONDS)
            await self._launch_database()
            self._record.say(time.monotonic(), "PostgreSQL answers", "good")

    async def _launch_database(self) -> None:
        assert self._postgres is not None
        self._postgres.launch()
        await answers(self._postgres.url)

    # -- falls -------------------------------------------------------------------------------------

    def _planned_falls(self, redis: EmbeddedRedis, pid: int) -> list[Fall]:
        policy, upstream, postgres = Policy(), self._upstream, self._postgres
        at_check = Policy(probe_interval_seconds=CHECK_INTERVAL_SECONDS)

        async def relaunch_redis() -> None:
            redis.launch()
            await redis.answered()

        async def relaunch_upstream() -> None:
            upstream.launch(_WARM_AGAIN_SECONDS)
            await answers(upstream.url)

        async def poison() -> float:
            struck_at = time.monotonic()
            _, writer = await asyncio.open_connection(HOST, redis.port)
            writer.write(_GARBAGE)
            await writer.drain()
            writer.close()
            return struck_at

        async def hang() -> float:
            os.kill(pid, HANG)
            return time.monotonic()

        async def itself() -> None:
            """A task is started again by the orchestrator."""

        killed, by_connection = "killed", promised_of_a_connection(policy)
        falls = [Fall("Redis", killed, struck_by(redis.kill), relaunch_redis, by_connection)]
        if postgres is not None:
            falls.append(
                Fall(
                    *("PostgreSQL", killed, struck_by(postgres.kill), self._launch_database),
                    *(promised_of_a_connection(at_check), DATABASE),
                )
            )
        by_asking = promised_of_a_check(at_check)
        stale = promised_of_a_task(STALE_SECONDS)
        return [
            *falls,
            Fall(
                *("HTTP service", killed, struck_by(upstream.kill), relaunch_upstream),
                *(by_asking, UPSTREAM),
            ),
            Fall(LISTENER, "bad message", poison, itself, promised_of_a_task(), LISTENER),
            Fall(OUTBOX, "hangs", hang, itself, stale, OUTBOX),
        ]

    async def _live_through(self, fall: Fall, service: ServiceProcess) -> None:
        await asyncio.sleep(_PAUSE_SECONDS)
        record = self._record
        stages, conditions = len(record.stages), len(record.conditions)
        struck_at = await fall.strike()
        record.say(struck_at, f"{fall.name}: {fall.how}", "bad")

        def noticed() -> list[float]:
            if not fall.condition:
                return [one.at for one in record.stages[stages:] if one.current == Stage.DEGRADED]
            since = record.conditions[conditions:]
            return [one.at for one in since if one.name == fall.condition and not one.holds]

        await service.until(
            lambda: bool(noticed()), STAGE_TIMEOUT_SECONDS, f"the fall of {fall.name} was noticed"
        )
        noticed_at = noticed()[0]
        assert record.port is not None
        counts = ClientCounts(clients=_CLIENTS)
        clients = asyncio.create_task(run_clients(record.port, counts, _SPREAD_SECONDS))
        try:
            await asyncio.sleep(_PAUSE_SECONDS)
            await fall.restore()
            back_at = time.monotonic()
            ready = await self._until_stage(service, Stage.READY, after=stages)
            await clients
        finally:
            clients.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await clients
        style = "good" if counts.served == counts.clients else "bad"
        says = f"{counts.served} of {counts.clients} clients that came meanwhile are served"
        record.say(time.monotonic(), says, style)
        record.figures.falls.append(
            FallFigure(
                fall.name,
                fall.how,
                noticed_seconds=noticed_at - struck_at,
                promised_seconds=fall.promised_seconds,
                ready_seconds=max(0.0, ready.at - back_at),
                clients=counts.clients,
                served=counts.served,
            )
        )
