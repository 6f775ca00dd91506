"""What the workers of one service cost each other: a status written, and the read of all of them.

The least is the same file, replaced and read by hand, without a lock that says who lives.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from orchestrator._gate.health_verdict import HealthVerdict
from orchestrator.pod._members import Member, now, read
from orchestrator.pod._standing import PodStanding, WorkerReport
from tests.benchmarks.measure import ROUNDS, interleaved, per_call
from tests.benchmarks.rows import Figure, Row, at_most

PART = "pod"
WORKERS, CALLS = 4, 500

_MOST_OF_WRITE, _MOST_OF_READ = 2.0, 6.0


def report(pid: int) -> WorkerReport:
    """What a worker that is ready says."""
    passes = HealthVerdict.PASS
    return WorkerReport(pid, "ready", passes, passes, (), now(), True, True)


def measure(workers: int = WORKERS, calls: int = CALLS, rounds: int = ROUNDS) -> Iterator[Row]:
    """Both rows."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  where workers meet
    with tempfile.TemporaryDirectory(dir=place) as folder, ExitStack() as stack:
        directory, bare = Path(folder, "pod"), Path(folder, "bare")
        directory.mkdir()
        bare.mkdir()
        members = [Member(directory) for _ in range(workers)]
        for number, member in enumerate(members):
            stack.callback(member.leave)
            member.write(report(number + 1).as_json())
            _replace(bare, number, report(number + 1))
        own = members[0]

        def look() -> None:
            reports = {name: WorkerReport.from_json(one) for name, one in read(directory, own.name)}
            standing = PodStanding.of(reports, workers, now(), now())
            assert standing.count("/readyz") == workers

        def look_by_hand() -> None:
            reports = [json.loads(path.read_bytes()) for path in bare.glob("*.json")]
            assert sum(one["readyz"] == "pass" for one in reports) == workers

        yield _row(
            "a worker says how it stands",
            {
                "ours": lambda: own.write(report(1).as_json()),
                "a file written and renamed": lambda: _replace(bare, 0, report(1)),
            },
            calls,
            rounds,
            _MOST_OF_WRITE,
        )
        yield _row(
            f"a worker learns how all {workers} stand",
            {"ours, with who of them lives": look, "their files read": look_by_hand},
            calls,
            rounds,
            _MOST_OF_READ,
        )


def _replace(folder: Path, number: int, said: WorkerReport) -> None:
    new = folder / f"{number}.new"
    new.write_text(json.dumps(said.as_json()), encoding="utf-8")
    new.replace(folder / f"{number}.json")


def _row(
    what: str, ways: dict[str, Callable[[], None]], calls: int, rounds: int, most: float
) -> Row:
    timed = {name: per_call(way, calls) for name, way in ways.items()}
    ours, floor = interleaved(timed, rounds=rounds).values()
    return Row(
        part=PART,
        what=what,
        unit="us",
        ours=Figure(ours.name, ours.values),
        floor=floor,
        verdicts=(at_most(ours, most, floor),),
    )
