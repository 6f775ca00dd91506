"""The application that real WSGI servers run; `ready` follows from a file, as in a slow start."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from orchestrator import Check, Orchestrator, Policy
from orchestrator.checks import file
from orchestrator.pod import Pod
from orchestrator.testing import ScriptedProbe
from orchestrator.wsgi import ReadinessGate

go = Check("go", file(os.environ["GO_FILE"]), interval_seconds=0.1)
startup = Orchestrator(ScriptedProbe(), policy=Policy(grace_seconds=0.0), conditions=[go])


def served(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if os.environ.get("THREAD_IN_PARENT"):  # what one should not do before a fork
    startup.run_in_thread().start()
pod = Pod()
application = ReadinessGate(served, startup, health=True, details=True, pod=pod, hold_seconds=30)
