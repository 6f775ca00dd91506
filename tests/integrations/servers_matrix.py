"""What the gate can do on each server: the expectations, and the table that shows them.

`python -m tests.integrations.servers_matrix` writes the table into `docs/reference/servers.md`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "servers.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

APP = "tests.integrations.servers_app:app"


@dataclass(frozen=True)
class Behaviour:
    """What is seen from outside. The text is what the table shows.

    Attributes:
        lifespan: Whether requests find the orchestrator in their state, put there by the lifespan.
        served: What those get who came before ready.
        leaving: Whether a client that leaves while it is held gives its place back at once.
        uploads: The same for one that has sent a part of a body.
        refused: What a refused WebSocket client sees.
        crash: What a client sees when the handler raises after the accept.
        degraded: What an open WebSocket sees with `close_on_degrade_seconds`.
        stopped: What a held WebSocket client sees at SIGTERM.
        stopped_http: What a held HTTP client sees at SIGTERM.
        drained: What an open WebSocket sees at SIGTERM.
        running: What becomes of a running request at SIGTERM.
        announced: Whether new requests are still served for `drain_announce_seconds`.
    """

    lifespan: str = "yes"
    served: str = "all served"
    leaving: str = "yes"
    uploads: str = "yes"
    refused: str = "503, `Retry-After`"
    crash: str = "1006"
    degraded: str = "1013"
    stopped: str = "503"
    stopped_http: str = "503"
    drained: str = "1012"
    running: str = "ends"
    announced: str = "yes"


@dataclass(frozen=True)
class Server:
    """One server as it is started, and what is expected of it."""

    name: str
    module: str
    arguments: str
    expected: Behaviour
    remark: str = ""

    def command(self, port: int) -> list[str]:
        """The command line."""
        arguments = self.arguments.format(port=port, bind=f"127.0.0.1:{port}").split()
        return [sys.executable, "-W", "ignore", "-m", self.module, *arguments, APP]


_UVICORN = "--port {port} --log-level warning --ws "
_GUNICORN = "--bind {bind} --no-control-socket --worker-class "

SERVERS = (
    Server("uvicorn, `websockets-sansio`", "uvicorn", _UVICORN + "websockets-sansio", Behaviour()),
    Server(
        "uvicorn, `websockets`",
        "uvicorn",
        _UVICORN + "websockets",
        Behaviour(),
        "It closes a handshake without an answer once that has waited for 10 s, which nothing"
        " changes: keep `hold_seconds` below 5, since a client may wait twice as long, or use"
        " `websockets-sansio`.",
    ),
    Server("uvicorn, `wsproto`", "uvicorn", _UVICORN + "wsproto", Behaviour()),
    Server(
        "hypercorn, asyncio",
        "hypercorn",
        "--bind {bind} --worker-class asyncio --workers 0",
        Behaviour(crash="1011", announced="no"),
        "Run it with `--workers 0`. Otherwise SIGTERM reaches only its parent process, and held"
        " clients are cut off with 500 after `--graceful-timeout` (3 s). So are requests that run"
        " longer, with the gate or without. It also bounds a drain at SIGTERM, when the port is"
        " closed already: set it above `drain_limit_seconds`, or use the hook.",
    ),
    Server(
        "hypercorn, trio",
        "hypercorn",
        "--bind {bind} --worker-class trio --graceful-timeout 1",
        Behaviour(
            crash="1011",
            stopped="cut off",
            stopped_http="cut off",
            drained="1006",
            announced="no",
        ),
        "Held clients, and requests that run longer, are cut off after `--graceful-timeout` (3 s),"
        " since SIGTERM reaches only its parent process; with `--workers 0` at once, since it then"
        " has no handler for SIGTERM. So it drains with the hook only.",
    ),
    Server(
        "granian",
        "granian",
        "--interface asgi --host 127.0.0.1 --port {port}",
        Behaviour(crash="1005", leaving="no", drained="1006", announced="no"),
        "The application does not learn that a client has left while its handshake or request is"
        " held. Its place is freed at ready, or after `hold_seconds`. It drops its WebSockets at"
        " SIGTERM, so it needs the hook to drain.",
    ),
    Server(
        "daphne",
        "daphne",
        "--bind 127.0.0.1 --port {port}",
        Behaviour(
            lifespan="no",
            uploads="held once it is complete",
            refused="403",
            crash="1011",
            degraded="4013",
            stopped="403",
            drained="4012",
        ),
        "It lacks the extension `websocket.http.response`, so a refused WebSocket gets a 403"
        " without `Retry-After`. It has no lifespan: with `manage_lifespan=True` the first request,"
        " even one to a health endpoint, enters the orchestrator. It does not let applications"
        " close with 1013 or 1012, and sends 4013 and 4012 instead.",
    ),
    Server(
        "gunicorn, `uvicorn_worker.UvicornWorker`",
        "gunicorn",
        _GUNICORN + "uvicorn_worker.UvicornWorker",
        Behaviour(),
    ),
    Server(
        "gunicorn, `asgi` worker",
        "gunicorn",
        _GUNICORN + "asgi",
        Behaviour(refused="403", crash="1011", stopped="403", announced="no"),
        "It lacks the extension `websocket.http.response`, so a refused WebSocket gets a 403"
        " without `Retry-After`. It closes its port at SIGTERM, and drains what is inside.",
    ),
)

_COLUMNS = {
    "lifespan": "orchestrator in the state",
    "served": "held, then ready",
    "leaving": "leaving frees the place at once",
    "uploads": "leaving in mid-upload does, too",
    "refused": "refused WebSocket",
    "crash": "handler raises",
    "degraded": "degraded, `close_on_degrade_seconds`",
    "stopped": "SIGTERM, held WebSocket",
    "stopped_http": "SIGTERM, held HTTP",
    "drained": "SIGTERM, open WebSocket",
    "running": "SIGTERM, running request",
    "announced": "SIGTERM, new requests served",
}


def table() -> str:
    """The table of the page, and the remarks under it."""
    rows = [["server", *_COLUMNS.values()], ["---"] * (len(_COLUMNS) + 1)]
    remarks: list[str] = []
    for server in SERVERS:
        mark = ""
        if server.remark:
            remarks.append(f"{len(remarks) + 1}. {server.name}: {server.remark}")
            mark = f" ({len(remarks)})"
        values = [getattr(server.expected, name) for name in _COLUMNS]
        rows.append([server.name + mark, *values])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *remarks]) + "\n"


def page() -> str:
    """The page with a fresh table."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
