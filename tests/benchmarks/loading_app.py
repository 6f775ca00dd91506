"""An application that takes long to import: it computes half of the time, and waits for the rest.

`LOADING_STEPS` says in how many steps: 20 take about 4.5 s on a quiet machine.
"""

import os
import time

import redis.asyncio  # noqa: F401  as in any service that uses Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

for _ in range(int(os.environ["LOADING_STEPS"])):
    total = 0
    for number in range(1_400_000):  # fixed work, not fixed time: whoever takes a share costs time
        total += number * number % 7
    time.sleep(0.12)


async def chat(socket: WebSocket) -> None:
    """Answer one message."""
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.receive()


async def livez(_: Request) -> PlainTextResponse:
    """What the gate answers where there is one."""
    return PlainTextResponse("pass")


app = Starlette(routes=[WebSocketRoute("/chat", chat), Route("/livez", livez)])
