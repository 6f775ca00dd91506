"""A WebSocket client that reconnects: patient, with jitter, and respecting `Retry-After`.

Run it with `python reconnect.py ws://localhost:8000/chat`.
"""

import asyncio
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

OPEN_SECONDS = 15.0  # a starting service may hold the handshake for up to 10 s
FIRST_SECONDS, MOST_SECONDS = 0.5, 30.0
STEADY_SECONDS = 10.0  # only a connection that lasted this long resets the back-off
COME_BACK = {403, 429, 500, 502, 503, 504}  # 403: from servers that cannot refuse with a 503


def wait_seconds(failures: int, at_least: float) -> float:
    """What the server asked for, plus a random part of a limit that doubles."""
    limit = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(failures, 16))
    return at_least + random.uniform(0, limit)


def retry_after(error: InvalidStatus) -> float:
    """`Retry-After` in seconds; 0 if it is missing or a date."""
    value = error.response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


async def stay_connected(url: str, talk: Callable[[ClientConnection], Awaitable[None]]) -> None:
    """Call `talk` with each new connection, until it returns."""
    failures = 0
    while True:
        at_least, opened_at = 0.0, math.inf
        try:
            async with connect(url, open_timeout=OPEN_SECONDS) as websocket:
                opened_at = time.monotonic()
                return await talk(websocket)
        except InvalidStatus as error:
            if error.response.status_code not in COME_BACK:
                raise
            at_least = retry_after(error)
        except (ConnectionClosed, InvalidMessage, OSError):  # a TimeoutError is an OSError
            pass
        failures = 1 if time.monotonic() - opened_at > STEADY_SECONDS else failures + 1
        await asyncio.sleep(wait_seconds(failures, at_least))


async def listen(websocket: ClientConnection) -> None:
    """Print each message. A normal close ends the iteration; any other raises."""
    async for message in websocket:
        print(message)  # noqa: T201  that is its purpose


if __name__ == "__main__":
    asyncio.run(stay_connected(sys.argv[1], listen))
