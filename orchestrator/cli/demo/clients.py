"""The demo's clients: real WebSocket connections, begun from the moment the port opens."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from orchestrator.cli.demo.embedded_redis import HOST
from orchestrator.cli.demo.figures import ABNORMAL_CLOSURE, NORMAL_CLOSURE

SPREAD_SECONDS = 2.0
"""The time over which the clients begin to connect."""

_GIVE_UP_SECONDS = 10.0
_ECHO_SECONDS = 5.0
_STAY_SECONDS = 0.25
_MOST_RETRIES = 20
_SERVICE_UNAVAILABLE = 503


class WrongEchoError(Exception):
    """A client got something else than what it sent."""


@dataclass(slots=True)
class ClientCounts:
    """What became of the clients.

    Attributes:
        clients: How many there are.
        begun: How many have begun to connect.
        served: How many got their echo by way of Redis and closed normally.
        refused: How many refusals (HTTP 503) there were; a client that is refused comes back.
        closes: How many connections ended with each close code.
        errors: How many clients failed otherwise, by what they met.
        longest_handshake_seconds: The longest that a client waited for its handshake: for how long
            it was held.
    """

    clients: int
    begun: int = 0
    served: int = 0
    refused: int = 0
    closes: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    longest_handshake_seconds: float = 0.0

    @property
    def failed(self) -> int:
        """How many clients were not served, for good."""
        return sum(self.errors.values()) + sum(
            count for code, count in self.closes.items() if code != NORMAL_CLOSURE
        )


async def stay_until_closed(
    port: int, number: int, closes: Counter[int], opened: Callable[[], object]
) -> None:
    """Clients that stay until the service closes them.

    Args:
        port: Where the service listens.
        number: How many there are.
        closes: Counts the close codes.
        opened: Called once all of them are inside.
    """
    async with contextlib.AsyncExitStack() as connections:
        url = f"ws://{HOST}:{port}/chat"
        inside = [
            await connections.enter_async_context(
                connect(url, open_timeout=_GIVE_UP_SECONDS, compression=None, proxy=None)
            )
            for _ in range(number)
        ]
        opened()
        for connection in inside:
            await connection.wait_closed()
            closes[connection.close_code or ABNORMAL_CLOSURE] += 1


async def run_clients(
    port: int, tally: ClientCounts, spread_seconds: float = SPREAD_SECONDS
) -> None:
    """Connect `tally.clients` clients, spread evenly over a time; return after the last.

    Args:
        port: Where the service listens.
        tally: Is counted up meanwhile.
        spread_seconds: The time over which they begin.
    """
    async with asyncio.TaskGroup() as tasks:
        for number in range(tally.clients):
            delay_seconds = spread_seconds * number / tally.clients
            tasks.create_task(_client(f"ws://{HOST}:{port}/chat", delay_seconds, number, tally))


async def _client(url: str, delay_seconds: float, number: int, tally: ClientCounts) -> None:
    await asyncio.sleep(delay_seconds)
    tally.begun += 1
    for _ in range(1 + _MOST_RETRIES):
        try:
            await _visit(url, number, tally)
        except InvalidStatus as error:
            if error.response.status_code != _SERVICE_UNAVAILABLE:
                tally.errors[f"HTTP {error.response.status_code}"] += 1
                return
            tally.refused += 1
            await asyncio.sleep(float(error.response.headers.get("Retry-After", 1)))
        except ConnectionClosed as error:
            tally.closes[error.rcvd.code if error.rcvd else ABNORMAL_CLOSURE] += 1
            return
        except (OSError, TimeoutError, InvalidHandshake, WrongEchoError) as error:
            tally.errors[type(error).__name__] += 1
            return
        else:
            return
    tally.errors["refused for good"] += 1


async def _visit(url: str, number: int, tally: ClientCounts) -> None:
    began_at = time.monotonic()
    async with connect(
        url,
        open_timeout=_GIVE_UP_SECONDS,
        # Neither of these is what is measured here.
        compression=None,
        ping_interval=None,
        # The connection is to this machine, whatever proxy the environment names.
        proxy=None,
    ) as connection:
        waited_seconds = time.monotonic() - began_at
        tally.longest_handshake_seconds = max(tally.longest_handshake_seconds, waited_seconds)
        await _talk(connection, f"client {number} says hello")
        await asyncio.sleep(_STAY_SECONDS)
    # What the service did not close before, the client has closed now.
    code = connection.close_code or ABNORMAL_CLOSURE
    tally.closes[code] += 1
    tally.served += code == NORMAL_CLOSURE


async def _talk(connection: ClientConnection, text: str) -> None:
    await connection.send(text)
    async with asyncio.timeout(_ECHO_SECONDS):
        answer = await connection.recv()
    if answer != text:
        raise WrongEchoError(f"sent {text!r}, got {answer!r}")
