"""The workers of one service, as one.

Every worker writes its state to a file (`_members.py`), in a directory that belongs to their
supervisor (`_parent.py`, `_places.py`), and reads those of the others when a health endpoint asks.
`PodStanding` (`_standing.py`) adds them up, `Quorum` decides, and one worker, the `Spokesman`,
writes the log lines that concern all. There is no leader, and there are no messages: a worker that
cannot write answers for itself alone.
"""

import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel

from orchestrator._core.companions import respond_to
from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import Verdicts
from orchestrator._gate.health_verdict import HealthVerdict
from orchestrator._hardening.arguments import require
from orchestrator._runtime.fork import forget_in_child
from orchestrator.pod._members import Member, has_locks, now, read, remember, remembered, sweep
from orchestrator.pod._parent import ParentProcess, expected_workers, find_parent
from orchestrator.pod._places import VARIABLE, NoPlaceError, find_place
from orchestrator.pod._quorum import Quorum, ReadyWhen
from orchestrator.pod._spokesman import Spokesman, logger
from orchestrator.pod._standing import PodStanding, WorkerReport
from orchestrator.pod._successors import Handover, successors

_BEAT_SECONDS = 1.0
_KEPT_SECONDS = 0.05
"""How long one look at the files is valid: probes often come several at once."""

_PAUSE_SECONDS = 3.0
"""If two beats are so far apart, this process was paused, and so may others have been."""

_taken: "weakref.WeakValueDictionary[Path, Pod]" = weakref.WeakValueDictionary()
"""The Pod of this process in each directory: a worker counts once."""


class Pod:
    """Lets the workers of one service answer `/readyz` and `/startupz` as one.

    Example::

        app.add_middleware(ReadinessGate, startup=startup, health=True, pod=Pod())

    A probe reaches whichever worker takes its connection, so without this the answer is one
    worker's. With it every worker answers for all of them:

    - `/startupz` passes once all expected workers have decided, and from then on.
    - `/readyz` passes once all expected workers are ready, and from then on while more than half of
      them are: one that restarts must not take the others out of rotation, and its own gate holds
      its clients. One that says nothing for 5 s, since its event loop is blocked, is not ready.
    - `/livez` is the worker's own.

    The workers meet in a directory of their supervisor: in /dev/shm, else in the temporary
    directory, never in the working directory. Where they cannot meet, as on Windows, there is one
    warning, and each answers for itself.

    Args:
        workers: How many there should be. If not given: the `--workers` of uvicorn, gunicorn,
            hypercorn or granian, else WEB_CONCURRENCY where the server reads it, else as many as
            have joined.
        readyz: `"all"`: every expected worker has to be ready, always. `"any"`: one is enough. A
            share: all at the start, then more than this share of them.
        service: Tells two services in the same workers apart.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When a number is out of range.
    """

    def __init__(
        self, workers: int | None = None, *, readyz: ReadyWhen = 0.5, service: str = ""
    ) -> None:
        if workers is not None:
            require(workers, int, "workers", "give how many there should be")
            if workers < 1:
                raise ValueError(f"workers is {workers!r}; it must be 1 or more")
        self._quorum = Quorum(readyz)
        self._workers = workers
        self._service: str = require(service, str, "service", "give the name of the service")
        self._startup: Orchestrator | None = None
        self._own_verdict: Verdicts = lambda _: HealthVerdict.FAIL
        self._handover: Handover | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()  # sync servers ask in threads of theirs
        self._entered = False
        self._parent: ParentProcess | None = None
        self._member: Member | None = None
        self._standing = PodStanding()
        self._expected: int | None = None
        self._spokesman = Spokesman("")
        self._beat_at = self._awake_at = 0.0

    # -- what health endpoints ask -----------------------------------------------------------------

    def join(self, startup: Orchestrator, verdict: Verdicts) -> None:
        """Take part from each start-up on. Health endpoints call it.

        Args:
            startup: The orchestrator of this worker.
            verdict: This worker's own answers.

        Raises:
            ValueError: When it serves another orchestrator already.
        """
        if self._startup is startup:
            return  # further endpoints of the same worker
        if self._startup is not None:
            raise ValueError("one Pod belongs to one orchestrator; make another, with service=")
        self._startup, self._own_verdict = startup, verdict
        startup.accompany(self._take_part)
        self._handover = Handover(startup, self._report, self._look, self._successors)
        startup.drain_with(self._handover)

    def verdict(self, path: str, own: HealthVerdict) -> tuple[HealthVerdict, str]:
        """The answer of all workers to `/readyz` or `/startupz`, and why it is not a pass.

        Args:
            path: The path.
            own: This worker's own answer, which is given where it cannot meet the others.
        """
        self._enter()
        if self._member is None:
            ended = "" if self._startup is None else self._startup.ended or ""
            return own, ended
        standing = self._look()
        words = standing.in_words(path)
        if path == "/startupz":
            return (HealthVerdict.PASS, "") if standing.started else (HealthVerdict.FAIL, words)
        if self._enough(standing.count(path, without_warnings=True), standing):
            return HealthVerdict.PASS, ""
        enough = self._enough(standing.count(path), standing)
        return (HealthVerdict.WARN if enough else HealthVerdict.FAIL), words

    def details(self) -> Mapping[str, object]:
        """Every worker and how it stands; `answers` marks the one that tells it."""
        if self._member is None:
            return {"alone": True, "pid": os.getpid()}
        return self._look().as_json(self._member.name)

    def _enough(self, ready: int, standing: PodStanding) -> bool:
        return self._quorum.enough(ready, standing.expected, was_ready=standing.was_ready)

    def _successors(self) -> frozenset[int]:
        """The new workers that are to replace all, once all were ready."""
        if self._parent is None or self._member is None:
            return frozenset()
        standing = self._look()  # all may have become ready since the last time
        return successors(self._parent.pid, standing) if standing.was_ready else frozenset()

    # -- taking part -------------------------------------------------------------------------------

    async def _take_part(self, events: Subscription) -> None:
        """Runs beside the start-up."""
        self._enter()
        try:
            await respond_to(events, self._report, beside=self._beat)
        finally:
            self._leave()
            self._begin_anew()  # for the next start-up

    async def _beat(self) -> None:
        while self._member is not None:
            self._report()
            ready = self._enough(self._standing.count("/readyz"), self._standing)
            self._spokesman.report(self._standing, self._member.name, ready=ready)
            await anyio.sleep(_BEAT_SECONDS)

    def _enter(self) -> None:
        """Join the others, once in each start-up."""
        if not self._entered:
            forget_in_child(self)  # a fork may come at any moment, also while the lock is held
            self._enter_once()

    def _enter_once(self) -> None:
        with self._lock:
            if not self._entered and self._startup is not None and self._startup.running:
                self._entered = True
                self._meet()

    def _meet(self) -> None:
        self._parent = parent = find_parent()
        if parent is None and self._workers is None and not os.environ.get(VARIABLE):
            return  # a process of its own
        self._expected, source = self._workers, "Pod(workers=)"
        if self._workers is None:
            self._expected, source = expected_workers(parent)
        try:
            if not has_locks():
                raise NoPlaceError("the system has no locks that end with their process")
            if parent is None and not os.environ.get(VARIABLE):
                raise NoPlaceError("it is not known which process has started the workers")
            place = find_place(parent, self._service)
            if _taken.get(place) is not None:
                raise NoPlaceError("there is another Pod in this process; give each a service=")
            self._member = Member(place)
        except (NoPlaceError, OSError) as error:
            self._alone(error)
            return
        _taken[place] = self
        sweep(place.parent, but=place)
        self._awake_at = self._beat_at = now()
        self._spokesman = Spokesman(source)
        self._report()
        expected = "" if self._expected is None else f" of {self._expected}"
        logger.info("worker %d has joined: %d%s", os.getpid(), len(self._look().workers), expected)

    def _alone(self, error: NoPlaceError | OSError) -> None:
        logger.warning(
            "the workers cannot meet, and each answers health checks for itself: %s; name a"
            " directory that is theirs alone in %s",
            getattr(error, "strerror", None) or error,
            VARIABLE,
        )

    def _leave(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            _taken.pop(member.directory, None)
            member.leave()

    def forked(self) -> None:
        """This process is a fork: what it has inherited belongs to its parent."""
        if self._member is not None:
            self._member.forget()
        _taken.clear()
        self._begin_anew()

    # -- reports -----------------------------------------------------------------------------------

    def _report(self) -> None:
        """Write the state of this worker, and that it lives."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        member, startup = self._member, self._startup
        if member is None or startup is None:
            return
        at = now()
        if at - self._beat_at > _PAUSE_SECONDS:
            self._awake_at = at
        self._beat_at = at
        report = WorkerReport(
            pid=os.getpid(),
            stage=startup.stage,
            readyz=self._own_verdict("/readyz"),
            startupz=self._own_verdict("/startupz"),
            waits_for=startup.explain().waits_for,
            beat_at=at,
            draining=startup.draining,
            serves_on=self._handover is not None and self._handover.serves_on,
        )
        standing = self._read(member, report)
        # From it the others, and later workers, learn what all have reached together.
        report = replace(report, pod_started=standing.started, pod_was_ready=standing.was_ready)
        try:
            member.write(report.as_json())
        except OSError as error:
            self._alone(error)
            self._leave()
            return
        self._standing = self._read(member, report)
        so_far = {"started": standing.started, "was-ready": standing.was_ready}
        for mark, is_so in so_far.items() if self._parent is not None else ():
            if is_so and mark not in standing.marks:
                remember(member.directory, mark)

    def _read(self, member: Member, own: WorkerReport | None = None) -> PodStanding:
        """The standing of all; `own` is what this worker is about to write."""
        data = read(member.directory, member.name)
        reports = {name: WorkerReport.from_json(one) for name, one in data}
        if own is not None:
            reports[member.name] = own
        # They end with the supervisor; without one there are none.
        marks = frozenset[str]() if self._parent is None else remembered(member.directory)
        return PodStanding.of(reports, self._expected, now(), self._awake_at, marks)

    def _look(self) -> PodStanding:
        """The standing of all; as of a moment ago, while all is well."""
        member, before = self._member, self._standing
        if member is None or (before.all_ready and now() - before.at < _KEPT_SECONDS):
            return before
        self._standing = standing = self._read(member)
        if (standing.started, standing.was_ready) != (before.started, before.was_ready):
            self._report()
        return standing
