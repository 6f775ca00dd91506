"""The service by hand, with anyio's event loop loaded, as Starlette does for any plain `def`.

`import_service_peer_anyio.py FD REDIS_URL`
"""

import socket
import sys
from importlib import import_module

import uvicorn

from tests.benchmarks.import_service_peer import app

# What `anyio.to_thread` loads when it is first called.
import_module("anyio._backends._asyncio")

if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    server.run([socket.socket(fileno=int(sys.argv[1]))])
