"""Crowds of early clients, a real server, and a real Redis whose pool raises when it is empty.

The benchmark `release` does the same with a thousand clients for every shape.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import Startup, serving, until
from tests.gate.light_clients import SERVED
from tests.gate.release_crowd import RedisPool, batch_for, visit
from tests.gate.release_shapes import ASGIApp, Shapes
from tests.redis_server import RedisServer

pytestmark = [
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # uvicorn's
]

CROWD, LARGE_CROWD = 120, 1000
POOL_SIZE = 40
WORK_SECONDS = 0.01
_PATIENCE_SECONDS = 120.0
"""How long a thousand clients may take on a machine that has other things to do."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def seen_by_a_crowd(
    url: str,
    path: str,
    *,
    clients: int = CROWD,
    max_held: int = 48,
    batch: int | None = None,
    back_seconds: float | None = 0.25,
    wrapped: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> Counter[str]:
    pool, startup = RedisPool(url, POOL_SIZE, WORK_SECONDS), Startup()
    app = wrapped(Shapes(pool, asyncio.sleep))
    gate = ReadinessGate(
        app,
        startup,
        manage_lifespan=True,
        release_batch=batch or batch_for(path),
        max_held=max_held,
        hold_seconds=_PATIENCE_SECONDS,
    )
    # Some handlers do not notice that their clients are gone.
    serves = serving(around(gate), timeout_graceful_shutdown=1, log_level="critical")
    async with serves as port, asyncio.timeout(_PATIENCE_SECONDS):
        visits = [
            asyncio.create_task(visit(port, path, number, back_seconds))
            for number in range(clients)
        ]
        counts = gate.counts
        await until(lambda: counts.held + counts.overflow >= clients and gate.held == max_held)
        startup.make_ready()
        seen = Counter(await asyncio.gather(*visits))
    await pool.aclose()
    return seen


# The law holds for every shape in virtual time; these are those of which each does something of
# its own to a real server.
@pytest.mark.parametrize(
    "path",
    [
        "/work_then_accept",
        "/accept_receive_work",
        "/welcome_after_work",
        "/push_only",
        "/silent",
        "/reads_apart",
        "/gives_up_waiting",
        "/get_without_receive",
        "/post",
        "/events",
    ],
)
async def test_nobody_is_lost_whatever_the_handler_does(server: RedisServer, path: str) -> None:
    assert await seen_by_a_crowd(server.url, path) == {SERVED: CROWD}


async def test_nobody_of_a_thousand_is_lost(server: RedisServer) -> None:
    many: dict[str, Any] = {"clients": LARGE_CROWD, "max_held": LARGE_CROWD}
    assert await seen_by_a_crowd(server.url, "/welcome_after_work", **many) == {SERVED: LARGE_CROWD}


async def test_those_who_come_back_when_they_were_told_to_are_served(server: RedisServer) -> None:
    seen = await seen_by_a_crowd(server.url, "/accept_receive_work", back_seconds=None)
    assert seen == {SERVED: CROWD}


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


@pytest.mark.parametrize("path", ["/post", "/accept_receive_work"])
@pytest.mark.parametrize("outside", [True, False])
async def test_nobody_is_lost_with_a_middleware_on_either_side(
    server: RedisServer, path: str, outside: bool
) -> None:
    side: dict[str, Any] = {"around" if outside else "wrapped": Passing}
    assert await seen_by_a_crowd(server.url, path, **side) == {SERVED: CROWD}


async def test_all_at_once_many_would_be_lost(server: RedisServer) -> None:
    seen = await seen_by_a_crowd(server.url, "/accept_receive_work", max_held=CROWD, batch=CROWD)
    assert seen["1011"] > CROWD / 10
