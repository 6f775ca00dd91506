"""The guarantees of the feed, each in a test that names it, on both backends."""

import itertools

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator._feed import HISTORY, SHARD, Feed
from states import Stage, StageChanged, TimerFired

pytestmark = pytest.mark.anyio


def event(sequence: int) -> StageChanged:
    previous, current = (Stage.GRACE, Stage.READY)[:: 1 if sequence % 2 else -1]
    return StageChanged(sequence, previous, current, TimerFired(0.0), 0.0, 0.0)


async def collect(feed: Feed, seen: list[int], *, slow: bool = False) -> None:
    async for item in feed.subscribe():
        seen.append(item.sequence)
        if slow:
            for _ in range(10):
                await anyio.lowlevel.checkpoint()


async def test_a_subscriber_sees_the_latest_event_first() -> None:
    feed = Feed()
    feed.publish(event(1))
    feed.publish(event(2))
    assert (await anext(feed.subscribe())).sequence == 2


async def test_every_later_event_is_seen_once_and_in_order() -> None:
    feed, seen = Feed(), [list[int]() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.deliver)
        for numbers in seen:
            tasks.start_soon(collect, feed, numbers)
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 51):
            feed.publish(event(number))
            if number % 7 == 0:
                await anyio.wait_all_tasks_blocked()
        feed.close()
    assert seen == [list(range(1, 51))] * 3


async def test_the_final_event_is_never_lost_and_a_stop_ends_every_stream() -> None:
    feed, seen = Feed(), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.deliver)
        tasks.start_soon(collect, feed, seen)
        await anyio.wait_all_tasks_blocked()
        feed.publish(event(1))
        feed.close()
    assert seen == [1]


async def test_a_stop_ends_streams_even_when_delivery_was_cancelled() -> None:
    feed, seen = Feed(), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, feed, seen)
        await anyio.wait_all_tasks_blocked()
        feed.publish(event(1))
        feed.close()
        feed.wake_remaining()
    assert seen == [1]


async def test_a_slow_subscriber_lags_alone() -> None:
    feed, slow, quick = Feed(), list[int](), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.deliver)
        tasks.start_soon(lambda: collect(feed, slow, slow=True))
        tasks.start_soon(collect, feed, quick)
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 21):
            feed.publish(event(number))
            while len(quick) < number:
                await anyio.lowlevel.checkpoint()
        assert len(slow) < 20
        feed.close()
    assert slow == quick == list(range(1, 21))


async def test_a_subscriber_that_lags_too_far_is_told_how_many_it_missed() -> None:
    feed = Feed()
    subscription = feed.subscribe()
    for number in range(1, HISTORY + 11):
        feed.publish(event(number))
    assert (await anext(subscription)).sequence == 11
    assert subscription.missed == 10
    assert (await anext(subscription)).sequence == 12
    assert subscription.missed == 10


async def test_very_many_subscribers_are_woken_in_shards_with_others_running_between() -> None:
    feed, turns, total = Feed(), list[int](), SHARD * 8
    woken = 0

    async def wait_for_one() -> None:
        nonlocal woken
        await anext(feed.subscribe())
        woken += 1

    async def other_work() -> None:
        while woken < total:
            turns.append(woken)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(total):
            tasks.start_soon(wait_for_one)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(feed.deliver)
        tasks.start_soon(other_work)
        feed.publish(event(1))
        while woken < total:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    steps = [after - before for before, after in itertools.pairwise(turns)]
    assert max(steps) <= 2 * SHARD


async def test_subscribers_that_leave_leave_nothing_behind() -> None:
    feed = Feed()
    async with anyio.create_task_group() as tasks:
        for _ in range(SHARD * 3 + 5):
            tasks.start_soon(collect, feed, [])
        await anyio.wait_all_tasks_blocked()
        assert len(feed._shards) == 4
        tasks.cancel_scope.cancel()
    assert len(feed._shards) <= 1


async def test_waiting_and_leaving_over_and_over_does_not_grow() -> None:
    feed = Feed()
    for _ in range(3 * SHARD):
        with anyio.move_on_after(0):
            await anext(feed.subscribe())
    assert len(feed._shards) <= 1


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(["publish", "join", "turn", "leave"]), max_size=60))
async def test_no_interleaving_loses_repeats_or_reorders(steps: list[str]) -> None:
    feed, seen, scopes = Feed(), list[list[int]](), list[anyio.CancelScope]()
    published = 0

    async def subscriber(numbers: list[int], scope: anyio.CancelScope) -> None:
        with scope:
            await collect(feed, numbers)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.deliver)
        for step in steps:
            if step == "publish":
                published += 1
                feed.publish(event(published))
            elif step == "join":
                seen.append([])
                scopes.append(anyio.CancelScope())
                tasks.start_soon(subscriber, seen[-1], scopes[-1])
            elif step == "leave" and scopes:
                scopes[0].cancel()
            else:
                await anyio.lowlevel.checkpoint()
        feed.close()
    for numbers, scope in zip(seen, scopes, strict=True):
        assert numbers == list(range(numbers[0], numbers[-1] + 1)) if numbers else True
        if not scope.cancel_called and published:
            assert numbers[-1] == published, "the final event is never lost"
