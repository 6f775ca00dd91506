"""A service with nothing but its framework: `import_service_bare.py FD REDIS_URL`."""

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def chat(_: Request) -> PlainTextResponse:
    """Tells how many modules are loaded when it is asked."""
    return PlainTextResponse(str(len(sys.modules)))


app = Starlette(routes=[Route("/chat", chat)])

if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    server.run([socket.socket(fileno=int(sys.argv[1]))])
