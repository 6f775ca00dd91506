"""The browser of these tests."""

from collections.abc import AsyncGenerator

import pytest

from tests.browser.devtools import Browser, chromium, find_chromium


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on nothing else


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncGenerator[Browser]:  # it sets the scope
    program = find_chromium()
    assert program is not None
    async with chromium(program) as browser:
        yield browser
