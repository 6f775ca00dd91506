"""Waiting that is ended from outside, and nothing else with it."""

import asyncio

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from orchestrator._runtime.interruptible import Interruptible, interruptible
from tests.asgi.gate_support import settled

pytestmark = pytest.mark.anyio


async def waits(one: Interruptible, ended: list[str], name: str) -> None:
    with one:
        await anyio.sleep_forever()
    await anyio.lowlevel.checkpoint()  # no cancellation is left over
    ended.append(name)


async def test_all_that_wait_inside_go_on_without_an_error() -> None:
    one, ended = interruptible(), list[str]()
    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(waits, one, ended, name)
        await settled()
        one.interrupt()
    assert sorted(ended) == ["a", "b", "c"]


async def test_what_has_left_is_not_touched_and_errors_pass() -> None:
    one = interruptible()
    with pytest.raises(OSError, match="gone"), one:
        raise OSError("gone")
    one.interrupt()
    await anyio.lowlevel.checkpoint()
    with one:
        await anyio.lowlevel.checkpoint()


async def test_a_scope_around_that_is_cancelled_as_well_ends_as_ever() -> None:
    for first in ("scope", "interrupt"):
        one, ended = interruptible(), list[str]()

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:

                async def both(
                    one: Interruptible = one,
                    scope: anyio.CancelScope = scope,
                    first: str = first,
                ) -> None:
                    await settled()
                    if first == "scope":
                        scope.cancel()
                    one.interrupt()
                    scope.cancel()

                tasks.start_soon(both)
                await waits(one, ended, "not reached")
            assert scope.cancelled_caught
            assert not ended


async def test_what_nobody_runs_any_more_ends_without_an_event_loop() -> None:
    one = interruptible()
    one.__enter__()
    ended: list[bool] = []

    def outside() -> None:
        ended.append(one.__exit__(GeneratorExit, GeneratorExit(), None))

    await anyio.to_thread.run_sync(outside)  # where no event loop runs
    assert ended == [False]


async def test_a_task_that_is_cancelled_meanwhile_is_cancelled(anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("trio has no other way to cancel than scopes")
    one, ended = interruptible(), list[str]()
    task = asyncio.create_task(waits(one, ended, "not reached"))
    await settled()
    one.interrupt()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended
