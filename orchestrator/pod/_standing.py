"""The standing of all workers, from their reports. Pure: every worker comes to the same result."""

from collections.abc import Mapping
from dataclasses import field
from typing import Self

from orchestrator._gate.health_verdict import HealthVerdict
from states._records import record

STUCK_SECONDS = 5.0
"""How long a worker may be silent; it beats each second."""

_MOST_WORDS = 20


@record
class WorkerReport:
    """What one worker says of itself.

    Attributes:
        pid: Its process id, by which people know it; 0 before its first report.
        stage: Its stage.
        readyz: Its own answer to `/readyz`.
        startupz: Its own answer to `/startupz`.
        waits_for: What it waits for.
        beat_at: When it last gave a sign of life.
        pod_started: Whether all have decided together, as far as it knows.
        pod_was_ready: Whether all were ready together, as far as it knows.
        draining: Whether it drains.
        serves_on: Whether it serves until the new workers are ready that replace all.
    """

    pid: int = 0
    stage: str = "booting"
    readyz: HealthVerdict = HealthVerdict.FAIL
    startupz: HealthVerdict = HealthVerdict.FAIL
    waits_for: tuple[str, ...] = ()
    beat_at: float = 0.0
    pod_started: bool = False
    pod_was_ready: bool = False
    draining: bool = False
    serves_on: bool = False

    def as_json(self) -> Mapping[str, object]:
        """For its file."""
        return {
            "pid": self.pid,
            "stage": self.stage,
            "readyz": self.readyz,
            "startupz": self.startupz,
            "waits_for": self.waits_for,
            "beat_at": self.beat_at,
            "pod_started": self.pod_started,
            "pod_was_ready": self.pod_was_ready,
            "draining": self.draining,
            "serves_on": self.serves_on,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        """From a file. A report that is missing, or of another version, counts as none."""
        try:
            waits_for = data["waits_for"]
            return cls(
                pid=int(str(data["pid"])),
                stage=str(data["stage"]),
                readyz=HealthVerdict(str(data["readyz"])),
                startupz=HealthVerdict(str(data["startupz"])),
                waits_for=tuple(map(str, waits_for)) if isinstance(waits_for, list) else (),
                beat_at=float(str(data["beat_at"])),
                pod_started=data["pod_started"] is True,
                pod_was_ready=data["pod_was_ready"] is True,
                draining=data.get("draining") is True,
                serves_on=data.get("serves_on") is True,
            )
        except (KeyError, ValueError):
            return cls()

    @property
    def name(self) -> str:
        """What people call it."""
        return f"worker {self.pid}" if self.pid else "a worker that is starting"

    @property
    def counts_as(self) -> HealthVerdict:
        """What it counts as in the answer of all to `/readyz`."""
        return HealthVerdict.PASS if self.serves_on else self.readyz

    @property
    def does(self) -> str:
        """Its state, in one word."""
        return "draining" if self.draining else self.stage


@record
class PodStanding:
    """How all workers of a service stand at one moment.

    Attributes:
        workers: Those that have joined, and whether each is stuck, by the names of their files.
        expected: How many there should be.
        at: When they were looked at.
        marks: What all of them reached together before: some of `MARKS`.
    """

    workers: Mapping[str, tuple[WorkerReport, bool]] = field(default_factory=dict)
    expected: int = 0
    at: float = 0.0
    marks: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        reports: Mapping[str, WorkerReport],
        expected: int | None,
        now: float,
        awake_at: float,
        marks: frozenset[str] = frozenset(),
    ) -> Self:
        """See how they stand.

        Args:
            reports: The reports of those that live.
            expected: How many there should be; as many as there are if `None`.
            now: The time.
            awake_at: Since when this process has been running without a break. Before that the
                others may not have run either, as in a container that was paused.
            marks: What was so for all of them together before.
        """
        silent_since = now - STUCK_SECONDS
        workers = {
            name: (report, bool(report.pid) and max(report.beat_at, awake_at) < silent_since)
            for name, report in sorted(reports.items())
        }
        return cls(workers, expected or len(workers), now, marks)

    def count(self, path: str, *, without_warnings: bool = False) -> int:
        """How many workers pass on this path."""
        bad = [HealthVerdict.FAIL, *([HealthVerdict.WARN] if without_warnings else [])]
        return sum(
            not stuck and (report.startupz if path == "/startupz" else report.counts_as) not in bad
            for report, stuck in self.workers.values()
        )

    @property
    def all_ready(self) -> bool:
        """Whether all is well with all of them."""
        return 0 < self.expected <= self.count("/readyz") == len(self.workers)

    def are_ready(self, pids: frozenset[int]) -> bool:
        """Whether as many of these workers are ready as there should be."""
        ready = sum(
            report.pid in pids and not stuck and report.readyz is not HealthVerdict.FAIL
            for report, stuck in self.workers.values()
        )
        return ready >= self.expected

    @property
    def started(self) -> bool:
        """Whether all of them have decided, or did so together before."""
        before = "started" in self.marks or any(it.pod_started for it, _ in self.workers.values())
        return before or 0 < self.expected <= self.count("/startupz")

    @property
    def was_ready(self) -> bool:
        """Whether all of them are ready, or were so together before."""
        before = "was-ready" in self.marks or any(
            it.pod_was_ready for it, _ in self.workers.values()
        )
        return before or 0 < self.expected <= self.count("/readyz")

    def in_words(self, path: str) -> str:
        """How many of how many, and what is the matter with the others."""
        joined = len(self.workers)
        what = "have decided" if path == "/startupz" else "are ready"
        words = f"{self.count(path)} of {self.expected} workers {what}"
        if joined < self.expected:
            words += f"; {joined} of {self.expected} have joined"
        others = [
            f"{report.name} is {'stuck' if stuck else report.does}"
            for report, stuck in self.workers.values()
            if stuck or report.counts_as is HealthVerdict.FAIL
        ]
        return "; ".join([words, *others[:_MOST_WORDS]])

    def as_json(self, own: str) -> Mapping[str, object]:
        """All of them, for the status page.

        Args:
            own: The name of the file of the worker that tells.
        """
        return {
            "expected": self.expected,
            "joined": len(self.workers),
            "ready": self.count("/readyz"),
            "workers": [
                {
                    "pid": report.pid,
                    "stage": report.stage,
                    "readyz": "fail" if stuck else report.readyz,
                    "stuck": stuck,
                    "draining": report.draining,
                    "waits_for": report.waits_for,
                    "beat_seconds": round(max(0.0, self.at - report.beat_at), 3),
                    "answers": name == own,
                }
                for name, (report, stuck) in self.workers.items()
            ],
        }
