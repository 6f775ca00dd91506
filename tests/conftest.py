"""Every asynchronous test runs on both backends."""

import contextlib
import gc
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import pytest

if sys.dont_write_bytecode:
    # Without any, each of the tests' many processes compiles all that it imports, which takes most
    # of their time. Nothing is left beside the sources.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / "build" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def _go_on(number: int, frame: FrameType | None) -> None:
    """A handler, which unlike SIG_IGN the programs of the tests do not inherit."""


for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, _go_on),
):
    # A shell lets its background jobs ignore the first two, and nohup the third, and all their
    # children; tests press Ctrl-C, and see what a program does when its terminal is gone.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import settings

    # A busy machine may keep any one example for longer than 0.2 s.
    settings.register_profile("patient", settings.default, deadline=None)
    settings.load_profile("patient")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pytest_collection_finish() -> None:
    """Keep the collector from what stays to the end, all tests and modules: 50 ms each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what other plugins do at the end may ask the collector what refers to what
