"""Every asynchronous test runs on both backends."""

import contextlib
import gc
import os
import signal
import sys
import time
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


_NO_TIME_LEFT = "no time was left for it"
_BEGAN_AT = time.time()
_DAY_SECONDS = 86400
_GOLDEN_RATIO = 0.618034


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--until",
        type=float,
        metavar="SECONDS",
        help="begin no test after this moment (Unix time), and say how many are left out; each day"
        " the tests begin at another place, so that all have their turn",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (until := config.getoption("--until")) is not None:
        # By the golden ratio, the places of any few days are far from each other.
        first = int(until // _DAY_SECONDS * _GOLDEN_RATIO % 1 * len(items))
        items[:] = items[first:] + items[:first]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("--until")
    if until is not None and time.time() > until:
        pytest.skip(_NO_TIME_LEFT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if left_out := sum(_NO_TIME_LEFT in str(report.longrepr) for report in skipped):
        passed = len(terminalreporter.getreports("passed"))
        terminalreporter.write_line(
            f"cut off after {time.time() - _BEGAN_AT:.0f} s: {passed} tests passed,"
            f" {left_out} were left out"
        )


def pytest_collection_finish() -> None:
    """Keep the collector from what stays to the end, all tests and modules: 50 ms each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what other plugins do at the end may ask the collector what refers to what
