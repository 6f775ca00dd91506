"""For the invisible blocks of pages: proof that what a page builds really serves."""

from typing import Any

import httpx

from tests.integrations.gate_support import serving

PATIENCE_SECONDS = 20.0


async def asked(app: Any, *paths: str) -> list[int]:  # noqa: ANN401  an application of any framework
    """Serve it with a real uvicorn, ask for each path in turn, and say what came back.

    A path behind a gate is answered once the service is ready, so ask for one of those first.
    """
    async with (
        serving(app) as port,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client,
    ):
        return [
            (await client.get(f"http://127.0.0.1:{port}{path}", follow_redirects=True)).status_code
            for path in paths
        ]
