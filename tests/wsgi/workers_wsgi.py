"""The application that real WSGI servers run; `ready` follows from a file, as in a slow start."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from orchestrator import Check, Orchestrator, Policy
from orchestrator.checks import file
from orchestrator.pod import Pod
from orchestrator.testing import ScriptedProbe
from orchestrator.wsgi import ReadinessGate

go = Check("go", file(os.environ["GO_FILE"]), interval_seconds=0.1)
times = Policy(
    grace_seconds=0.0,
    drain_announce_seconds=float(os.environ.get("ANNOUNCE_SECONDS", "0")),
    drain_close_seconds=0.0,
    drain_limit_seconds=60.0,
)
startup = Orchestrator(ScriptedProbe(), policy=times, conditions=[go])


def until_let_go(name: str) -> Iterator[bytes]:
    """Work until the test makes a file; another one says that this has begun."""
    file = Path(os.environ["GO_FILE"]).with_name(name)
    file.touch()
    yield b"begun "
    while file.exists():
        time.sleep(0.01)
    yield b"done"


def served(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    kind, _, name = environ["PATH_INFO"][1:].partition("/")
    if kind == "stream":
        start_response("200 OK", [])
        return until_let_go(name)
    whole = b"".join(until_let_go(name)) if kind == "slow" else b""
    body = whole or str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if os.environ.get("THREAD_IN_PARENT"):  # what one should not do before a fork
    startup.run_in_thread().start()
pod = Pod()
application = ReadinessGate(served, startup, health=True, details=True, pod=pod, hold_seconds=30)
