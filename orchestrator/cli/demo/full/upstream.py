"""A small HTTP service that is up at once and healthy a little later: 503, then 200.

A program of its own; the standard library alone is enough for it.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOST = "127.0.0.1"


def _serve(port: int, warm_up_seconds: float) -> None:
    warm_at = time.monotonic() + warm_up_seconds

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if time.monotonic() >= warm_at else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
            """Say nothing."""

    ThreadingHTTPServer((_HOST, port), Handler).serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]))
