"""For the invisible blocks of pages: proof that what a page builds really serves."""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.asgi.gate_support import serving

PATIENCE_SECONDS = 20.0

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here has TLS, and to load the system's certificates takes longer than a page."""


@asynccontextmanager
async def asking(app: Any) -> AsyncGenerator[Callable[[str], Awaitable[int]]]:  # of any framework
    """Serve an application with a real uvicorn; yields what asks for a path and says what came."""
    async with (
        serving(app) as port,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS, verify=NO_TLS) as client,
    ):

        async def ask(path: str) -> int:
            url = f"http://127.0.0.1:{port}{path}"
            return (await client.get(url, follow_redirects=True)).status_code

        yield ask


async def asked(app: Any, *paths: str) -> list[int]:
    """Ask for each path in turn.

    A path behind a gate is answered once the service is ready, so ask for one of those first.
    """
    async with asking(app) as ask:
        return [await ask(path) for path in paths]
