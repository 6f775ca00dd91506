"""Fresh processes: what a few lines of Python cost in time and memory, and a service's start.

A service that runs is measured through `/proc`, so on Linux only.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
_REQUEST = b"GET /chat HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"

# The child says its own peak: what `wait4` tells of a child begins with its parent's memory.
_TELL_PEAK = """
import resource, sys
with open(1, "w") as out:
    try:
        status = open("/proc/self/status").read()
        print(int(status.partition("VmHWM:")[2].split()[0]) * 1024, file=out)
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, file=out)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has cost, from its start to its end.

    Attributes:
        wall_ms: Milliseconds that went by.
        user_ms: Milliseconds of processor time outside of the kernel.
        peak_mib: The most memory that was resident at once.
    """

    wall_ms: float
    user_ms: float
    peak_mib: float


def environment(**more: str) -> dict[str, str]:
    """The environment of a measured process: nothing of the caller's telemetry or settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "ORCHESTRATOR_"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def run_fresh(code: str) -> Cost:
    """Run the code in a new interpreter."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", code + _TELL_PEAK],
            environment(),
            file_actions=[(os.POSIX_SPAWN_DUP2, said.fileno(), 1)],
        )
        _, status, used = os.wait4(process, 0)
        wall = time.perf_counter() - began
        if status:
            raise RuntimeError(f"it ended with {os.waitstatus_to_exitcode(status)}: {code}")
        said.seek(0)
        return Cost(wall * 1e3, used.ru_utime * 1e3, int(said.read()) / 2**20)


class Sink:
    """A collector that takes all that is sent to it. As a context manager it runs in a thread."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if self.path.endswith("/traces"):
                    sink._arrived.set()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Say nothing: services end without a farewell."""

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def forget(self) -> None:
        """Wait for a new trace from now on."""
        self._arrived.clear()

    def wait_for_trace(self, timeout_seconds: float = 10.0) -> None:
        """Return once a trace has arrived since `forget`."""
        if not self._arrived.wait(timeout_seconds):
            raise TimeoutError(f"no trace arrived within {timeout_seconds:g} s")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Start:
    """How a service started.

    Attributes:
        first_response_ms: From the start of the process to its first 200.
        processor_ms: Its processor time until then, all threads and the kernel included.
        response_mib: Its most resident memory until then.
        peak_mib: The same, after it has also sent its first trace, where it sends any.
        modules: How many modules it had loaded when it answered.
    """

    first_response_ms: float
    processor_ms: float
    response_mib: float
    peak_mib: float
    modules: float


def start_service(module: str, redis_url: str, sink: Sink, *, traces: bool) -> Start:
    """Start `tests.benchmarks.<module>`, ask it at once, and end it.

    The socket listens before the process exists, so that nobody has to ask again and again.
    """
    sink.forget()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.set_inheritable(True)
        client.settimeout(30)
        client.connect(listener.getsockname())
        client.sendall(_REQUEST)
        began = time.perf_counter()
        with _running([module, str(listener.fileno()), redis_url], listener, sink) as process:
            answer = client.recv(65536)
            took = time.perf_counter() - began
            used, peak = _processor_ms(process.pid), _peak_mib(process.pid)
            while more := client.recv(65536):
                answer += more
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{module} answered {answer[:200]!r}")
            if traces:
                sink.wait_for_trace()
            modules = float(answer.rpartition(b"\r\n")[2])
            return Start(took * 1e3, used, peak, _peak_mib(process.pid), modules)


@contextlib.contextmanager
def _running(
    arguments: Sequence[str], listener: socket.socket, sink: Sink
) -> Iterator[subprocess.Popen[bytes]]:
    module, *rest = arguments
    # Batches are sent soon, so that what sending costs is a part of the peak.
    telling = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(f"{module}.py")), *rest],
        pass_fds=[listener.fileno()],
        env=environment(**telling),
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _peak_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _processor_ms(process: int) -> float:
    """Of all its threads, to the nanosecond where the kernel keeps it, else to the tick."""
    total = 0.0
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread has just ended
            total += int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e6
    return total
