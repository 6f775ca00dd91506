"""The command line from the start of its process to its end, with a Redis that is up."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from tests.benchmarks.detection_candidates import redis_cli
from tests.benchmarks.import_process import ROOT, environment
from tests.benchmarks.measure import Candidate, interleaved
from tests.benchmarks.rows import Figure, Row, Verdict, at_most, below
from tests.redis_server import RedisServer

PART = "command"
ROUNDS = 9
MOST_WAIT_MS, MOST_HELP_MS = 120.0, 100.0

OURS = "startup-orchestrator"
PING = "redis-py: import and PING"
_PING = "import redis, sys; redis.Redis.from_url(sys.argv[1]).ping()"
_TYPER = """
import typer
app = typer.Typer()
@app.command()
def wait(redis: str = "", timeout: float = 30.0) -> None:
    "Wait for Redis."
app()
"""
_CONNECT = 'exec 3<> "/dev/tcp/$0/$1"'


def measure(rounds: int = ROUNDS) -> Iterator[Row]:
    """All rows."""
    with RedisServer() as server:
        yield wait_row(server.url, rounds)
    yield help_row(rounds)


def wait_row(url: str, rounds: int) -> Row:
    """`wait`, beside others that wait for nothing either."""
    host, port = urlsplit(url).hostname or "", str(urlsplit(url).port)
    program = _script(OURS)
    ways: dict[str, Sequence[str]] = {
        OURS: (*program, "wait", "--redis", url, "--timeout", "30"),
        PING: (sys.executable, "-c", _PING, url),
        "python, which does nothing": (sys.executable, "-c", "pass"),
    }
    if bash := shutil.which("bash"):
        ways["bash, a port"] = (bash, "-c", _CONNECT, host, port)
    if cli := redis_cli():
        ways["redis-cli ping"] = (cli, "-h", host, "-p", port, "ping")
    figures = interleaved({name: _ms(words) for name, words in ways.items()}, rounds=rounds)
    ours = figures[OURS]
    return _row(
        "`wait` from its start to its end, with Redis up",
        figures,
        below(ours, MOST_WAIT_MS, "ms"),
        # Of the same machine, where it is slower than the one that the milliseconds are for.
        at_most(ours, 2.0, figures[PING]),
    )


def help_row(rounds: int) -> Row:
    """`--help`, beside the least program that typer can make."""
    ways: dict[str, Sequence[str]] = {
        OURS: (*_script(OURS), "--help"),
        "a typer program of one command": (sys.executable, "-c", _TYPER, "--help"),
        "python, which does nothing": (sys.executable, "-c", "pass"),
    }
    figures = interleaved({name: _ms(words) for name, words in ways.items()}, rounds=rounds)
    return _row("`--help`", figures, below(figures[OURS], MOST_HELP_MS, "ms"))


def _script(name: str) -> Sequence[str]:
    """The installed program, as a container's entry point runs it."""
    found = os.path.join(os.path.dirname(sys.executable), name)  # noqa: PTH118, PTH120  not resolved
    return (found,) if os.access(found, os.X_OK) else (sys.executable, "-m", "orchestrator")


def _ms(words: Sequence[str]) -> Candidate:
    def run() -> float:
        began = time.perf_counter()
        done = subprocess.run(
            words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
        took = (time.perf_counter() - began) * 1e3
        if done.returncode != 0:
            raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr}")
        return took

    return run


def _row(what: str, figures: dict[str, Figure], *verdicts: Verdict) -> Row:
    floor = figures["python, which does nothing"]
    peers = tuple(one for one in figures.values() if one.name not in (OURS, floor.name))
    return Row(
        part=PART,
        what=what,
        unit="ms",
        ours=figures[OURS],
        peers=peers,
        floor=floor,
        verdicts=verdicts,
    )
