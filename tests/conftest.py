"""Every asynchronous test runs on both backends."""

import gc

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pytest_collection_finish() -> None:
    """Keep the collector from what stays to the end, all tests and modules: 50 ms each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what other plugins do at the end may ask the collector what refers to what
