"""What checks cost: a hundred while all is well, three at the start, and one that hangs."""

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import anyio

from tests.benchmarks import check_asks as asks
from tests.benchmarks import check_peers as known
from tests.benchmarks.check_peers import Rate
from tests.benchmarks.measure import Candidate, interleaved
from tests.benchmarks.rows import Figure, Row, Verdict, at_most, below
from tests.postgres_server import PostgresProcess, find_postgres
from tests.redis_server import FakeServer, RedisServer, free_port

PART = "checks"
NUMBER = 100
INTERVAL_SECONDS = 15.0
MOST_PERCENT = 0.1
MOST_MORE_MS = 5.0
WEB_SECONDS = 0.05

_WEB_SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(float(sys.argv[2]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args): pass
ThreadingHTTPServer.request_queue_size = 512  # all may connect at one moment
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def measure(
    rounds: int = 5, warm_up: int = 0, run_seconds: float = 1.0, faster: float = 60.0
) -> Iterator[Row]:
    """Measure the part; checks are asked `faster` times as often as they would be."""
    interval_seconds = INTERVAL_SECONDS / faster
    rate = Rate(NUMBER, interval_seconds, INTERVAL_SECONDS, 3 * interval_seconds, run_seconds)
    yield cost_row(rounds, warm_up, rate)
    with RedisServer() as server, a_web_server() as port:
        yield start_row(rounds, warm_up, server, port)
        yield hung_row(min(rounds, 3), 0, server)  # what hangs takes its time
    yield from real_rows(min(rounds, 3), rate)


def cost_row(rounds: int, warm_up: int, rate: Rate) -> Row:
    """A hundred checks that are asked every 15 s."""
    names = (known.OURS, known.JITTERED, known.BY_HAND, known.TIMERS)
    candidates: dict[str, Candidate] = {
        name: partial(anyio.run, known.percent_of_a_core, name, rate) for name in names
    }
    figures = interleaved(candidates, rounds=rounds, warm_up=warm_up)
    ours, floor = figures[known.OURS], figures[known.TIMERS]
    verdicts = (below(ours, MOST_PERCENT, "%"), at_most(ours, 20, floor))
    what = f"{NUMBER} checks, one attempt every {INTERVAL_SECONDS:g} s each: processor time"
    return _row(what, "% of a core", figures, *verdicts, floor=floor)


def real_rows(rounds: int, rate: Rate) -> Iterator[Row]:
    """A hundred checks of real servers of each kind."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        kinds = [asks.a_redis(redis.url, redis.port), asks.a_port(redis.port)]
        kinds += [asks.a_web_service(stack.enter_context(a_web_server(0.0)))]
        if find_postgres() is None:
            print("checks of PostgreSQL are left out: it is not installed", file=sys.stderr)
        else:
            server = PostgresProcess("-c", f"max_connections={3 * NUMBER}")
            server.append("pg_hba.conf", "local all all trust")
            kinds += [asks.a_postgres(stack.enter_context(server))]
        for asked in kinds:
            yield real_row(rounds, rate, asked)


def real_row(rounds: int, rate: Rate, asked: asks.Asked) -> Row:
    """A hundred checks of one kind of server."""
    candidates: dict[str, Candidate] = {
        known.OURS: partial(anyio.run, asks.percent_ours, asked, rate),
        known.BARE: partial(anyio.run, asks.percent_bare, asked, rate),
    }
    figures = interleaved(candidates, rounds=rounds, warm_up=0)
    ours, floor = figures[known.OURS], figures[known.BARE]
    verdicts = [at_most(ours, asked.most_times_bare, floor)]
    if asked.most_percent is not None:
        verdicts.insert(0, below(ours, asked.most_percent, "%"))
    what = f"{NUMBER} checks of real servers, every {INTERVAL_SECONDS:g} s: {asked.what}"
    return _row(what, "% of a core", figures, *verdicts, floor=floor)


def start_row(rounds: int, warm_up: int, server: RedisServer, port: int) -> Row:
    """A start with a Redis, a port and a web server that are up."""
    where = (server.url, f"http://127.0.0.1:{port}/", server.port)
    names = present([known.OURS, known.GATHERED, known.IN_TURN, known.SLOWEST])
    candidates: dict[str, Candidate] = {
        name: partial(anyio.run, known.ready_ms, name, *where) for name in names
    }
    figures = interleaved(candidates, rounds=rounds, warm_up=warm_up)
    ours, slowest = figures[known.OURS], figures[known.SLOWEST]
    more = ours.median - slowest.median
    verdict = Verdict(f"{more:.2g} ms more than {slowest.name} (at most 5)", more <= MOST_MORE_MS)
    what = f"ready with three checks; the web server takes {WEB_SECONDS * 1000:g} ms"
    return _row(what, "ms", figures, verdict, floor=slowest)


def hung_row(rounds: int, warm_up: int, server: RedisServer) -> Row:
    """A request for health while one of three servers accepts and says nothing."""
    with FakeServer(_wait_for_end) as silent:
        names = present([known.OURS, known.PY_HEALTHCHECK, known.FASTAPI_HEALTHCHECKS])
        candidates: dict[str, Candidate] = {
            name: partial(anyio.run, known.answer_ms, name, server.port, silent.port)
            for name in names
        }
        figures = interleaved(candidates, rounds=rounds, warm_up=warm_up)
    ours = figures[known.OURS]
    peers = [figure for name, figure in figures.items() if name != known.OURS]
    best = min(peers, key=lambda peer: peer.median, default=None)
    what = (
        f"health answered while one of three hangs; its time limit is {known.TIMEOUT_SECONDS:g} s"
    )
    return _row(what, "ms", figures, at_most(ours, 0.1, best, "the best peer"))


def _wait_for_end(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(1024):
            pass


def present(names: Iterable[str]) -> list[str]:
    """Those that can run; says on stderr why the others cannot."""
    found = []
    for name in names:
        need = known.NEEDS.get(name)
        if need is None or importlib.util.find_spec(need) is not None:
            found.append(name)
        else:
            print(f"{name} is left out: {need} is not installed", file=sys.stderr)
    return found


@contextlib.contextmanager
def a_web_server(seconds: float = WEB_SECONDS) -> Iterator[int]:
    """A web server in a process of its own, which takes its time for an answer; gives its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _WEB_SERVER, str(port), str(seconds)])
    try:
        deadline = time.monotonic() + 30
        while not known.is_up(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def _row(
    what: str,
    unit: str,
    figures: Mapping[str, Figure],
    *verdicts: Verdict,
    floor: Figure | None = None,
) -> Row:
    apart = {known.OURS, floor.name if floor else ""}
    return Row(
        part=PART,
        what=what,
        unit=unit,
        ours=figures[known.OURS],
        peers=tuple(figure for name, figure in figures.items() if name not in apart),
        floor=floor,
        verdicts=verdicts,
    )
