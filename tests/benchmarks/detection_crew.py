"""Candidates side by side: each in a process of its own, all of them waiting for the same servers.

All times are readings of `time.monotonic`, which all processes of a machine share.
"""

import contextlib
import functools
import importlib
import importlib.util
import json
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

import anyio

ROOT = Path(__file__).parents[2]
HEAD_START_SECONDS = 0.3
"""How long before its first job begins a crew is told of a wave."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to be noticed by every candidate.

    Attributes:
        url: Where Redis is, or will be.
        begin_at: When to begin, in monotonic seconds.
        phase: From 0 to 1, by chance: where in its interval a poller is then.
    """

    url: str
    begin_at: float
    phase: float = 0.0

    @property
    def address(self) -> Sequence[str]:
        """Where it is in redis-cli's words."""
        kind, _, rest = self.url.partition("://")
        if kind == "unix":
            return ("-s", rest.partition("?")[0])
        return ("-h", "127.0.0.1", "-p", rest.partition("/")[0].rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a candidate noticed.

    Attributes:
        known_at: When whoever waited for it was resumed, in monotonic seconds.
        attempts: How many attempts it made until then, the good one included.
        resumed: How often it was resumed, which should be once.
    """

    known_at: float
    attempts: int = 1
    resumed: int = 1


Run = Callable[[Job], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to notice something.

    Attributes:
        run: Does one job.
        needs: The modules that must be installed.
        backend: The event loop.
    """

    run: Run
    needs: tuple[str, ...] = ()
    backend: str = "asyncio"


def installed(names: Mapping[str, Candidate]) -> list[str]:
    """The names of those that can run here; says on stderr why the others cannot."""
    chosen = []
    for name, candidate in names.items():
        missing = [need for need in candidate.needs if importlib.util.find_spec(need) is None]
        if missing:
            print(
                f"{name} is left out: {missing[0]} is not installed", file=sys.stderr
            )  # a benchmark prints
        else:
            chosen.append(name)
    return chosen


class Crew:
    """One process for each candidate, for as many waves of jobs as are wanted.

    Args:
        module: The module whose `CANDIDATES` they are.
        names: Which of them.
    """

    def __init__(self, module: str, names: Sequence[str]) -> None:
        self._module = module
        self._names = list(names)
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._busy = False

    def __enter__(self) -> Self:
        for name in self._names:
            self._workers[name] = subprocess.Popen(
                [sys.executable, "-m", __name__, self._module, name],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        for name in self._names:  # all have imported what they need before the first job begins
            self._line(name)
        return self

    def __exit__(self, *_error: object) -> None:
        for worker in self._workers.values():
            if self._busy:  # nobody waits for what it does
                worker.kill()
            with contextlib.suppress(OSError):
                _stream(worker.stdin).close()
        for worker in self._workers.values():
            try:
                worker.wait(2)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            _stream(worker.stdout).close()

    def begin(self, jobs: Sequence[Job], limit_seconds: float) -> None:
        """Have all jobs of a wave done by every candidate, within `limit_seconds` from now."""
        self.begin_each(dict.fromkeys(self._workers, jobs), limit_seconds)

    def begin_each(self, jobs: Mapping[str, Sequence[Job]], limit_seconds: float) -> None:
        """The same with jobs of its own for each candidate, where they would be in their way."""
        self._busy = True
        for name, worker in self._workers.items():
            order = json.dumps([limit_seconds, [asdict(job) for job in jobs[name]]])
            _stream(worker.stdin).write(order + "\n")
            _stream(worker.stdin).flush()

    def outcomes(self) -> dict[str, list[Outcome]]:
        """What each candidate noticed, in the order of the jobs.

        One that failed is left out from now on, with its reason on stderr.
        """
        found = {}
        for name in tuple(self._workers):
            try:
                found[name] = [Outcome(**outcome) for outcome in json.loads(self._line(name))]
            except ValueError:
                print(
                    f"{name} is left out: its process ended, see above", file=sys.stderr
                )  # a benchmark prints
                self._workers.pop(name).wait()
        self._busy = False
        return found

    def _line(self, name: str) -> str:
        return _stream(self._workers[name].stdout).readline()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # all of them are pipes
    return stream


async def _wave(run: Run, jobs: Sequence[Job], limit_seconds: float) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}

    async def do(number: int, job: Job) -> None:
        await anyio.sleep(max(0.0, job.begin_at - time.monotonic()))
        outcomes[number] = await run(job)

    with anyio.fail_after(limit_seconds):
        async with anyio.create_task_group() as tasks:
            for number, job in enumerate(jobs):
                tasks.start_soon(do, number, job)
    return [outcomes[number] for number in range(len(jobs))]


def _orders() -> Iterator[tuple[float, list[Job]]]:
    for line in sys.stdin:
        limit_seconds, jobs = json.loads(line)
        yield limit_seconds, [Job(**job) for job in jobs]


def main() -> None:
    """One candidate: waves come in on stdin, outcomes go out on stdout, a line for each wave."""
    logging.disable(logging.CRITICAL)  # every candidate reports failed attempts; none is paid for
    module, name = sys.argv[1:]
    candidate: Candidate = importlib.import_module(module).CANDIDATES[name]
    print(flush=True)  # says that it is there
    for limit_seconds, jobs in _orders():
        wave = functools.partial(_wave, candidate.run, jobs, limit_seconds)
        outcomes = anyio.run(wave, backend=candidate.backend)
        print(json.dumps([asdict(outcome) for outcome in outcomes]), flush=True)  # the answer


if __name__ == "__main__":
    main()
