"""Commands that a container's start waits with, from when Redis can answer to their end.

Ours is the real `startup-orchestrator wait`. The others are loops of bash that do what the usual
tools do at the pace that those have by default: none of them needs to be installed, and none pays
for a process that is slow to start. What the pace costs is the same.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tests.benchmarks.detection_crew import Candidate, Job, Outcome, Run
from tests.benchmarks.rows import Figure, Row, at_most

OURS = "startup-orchestrator wait"
OUTAGE_SECONDS = 5.0
WAVE = 7
"""So many servers at once: each has one process of every command, and ours begins with imports."""

# A child for each attempt, as the script has it, so that a refusal leaves no descriptor behind.
_WAIT_FOR_IT = """
until (echo -n > "/dev/tcp/$1/$2") 2>/dev/null; do sleep 1; done
"""
_DOCKERIZE = """
until { exec 3<> "/dev/tcp/$1/$2"; } 2>/dev/null; do sleep 1; done
"""
_WAIT4X = r"""
answers() {
  { exec 3<> "/dev/tcp/$1/$2"; } 2>/dev/null || return 1
  printf 'PING\r\n' >&3 && IFS= read -r -t 1 -u 3 line && [[ $line == +PONG* ]]
}
until answers "$1" "$2"; do sleep 1; done
"""


def ours(job: Job) -> Sequence[str]:
    """The words of the command."""
    asks = ("--redis", job.url, "--timeout", "60", "--quiet")
    return (sys.executable, "-m", "orchestrator", "wait", *asks)


def bash(script: str) -> Callable[[Job], Sequence[str]]:
    """The words that run a script with host and port."""

    def words(job: Job) -> Sequence[str]:
        _, host, _, port = job.address
        return ("bash", "-c", script, "bash", host, port)

    return words


def ended(words: Callable[[Job], Sequence[str]]) -> Run:
    """Run a command, and say when it has ended well."""

    async def run(job: Job) -> Outcome:
        process = await asyncio.create_subprocess_exec(*words(job))
        try:
            status = await process.wait()
            known_at = time.monotonic()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if status != 0:
            raise RuntimeError(f"{words(job)} ended with {status}")
        return Outcome(known_at)

    return run


CANDIDATES = {
    OURS: Candidate(ended(ours)),
    "wait-for-it's loop (TCP, 1 s)": Candidate(ended(bash(_WAIT_FOR_IT))),
    "dockerize's loop (TCP, 1 s)": Candidate(ended(bash(_DOCKERIZE))),
    "wait4x's loop (PING, 1 s)": Candidate(ended(bash(_WAIT4X))),
}


def command_row(part: str, latencies: Mapping[str, Sequence[float]]) -> Row:
    """All of them that could run here; the target is to be quicker than each."""
    ran = [name for name in CANDIDATES if name in latencies]
    ours, *peers = (Figure(name, tuple(latencies[name])) for name in ran)
    return Row(
        part=part,
        what=f"Redis answers to the command has ended, after an outage of {OUTAGE_SECONDS:g} s",
        unit="ms",
        ours=ours,
        peers=tuple(peers),
        verdicts=tuple(at_most(ours, 1.0, peer) for peer in peers),
    )
