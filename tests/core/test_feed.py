"""The guarantees of the feed, each in a test that names it, on both backends."""

import itertools

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator._core.feed import BATCH, HISTORY, MOST_BATCHES, Feed
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
    feed, seen = Feed(), [list[int]() for _ in range(BATCH * MOST_BATCHES * 2)]
    async with anyio.create_task_group() as tasks:
        for numbers in seen:
            tasks.start_soon(collect, feed, numbers)
        await anyio.wait_all_tasks_blocked()
        feed.publish(event(1))
        feed.close()
        feed.resume_remaining()
    assert seen == [[1]] * len(seen)


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


async def test_very_many_subscribers_are_resumed_in_slices_with_others_running_between() -> None:
    feed, turns, total = Feed(), list[int](), BATCH * 20
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
    assert max(steps) <= 2 * BATCH


async def test_a_few_subscribers_are_resumed_without_delivery() -> None:
    feed, seen = Feed(), [list[int]() for _ in range(BATCH + 1)]
    async with anyio.create_task_group() as tasks:
        for numbers in seen:
            tasks.start_soon(collect, feed, numbers)
        await anyio.wait_all_tasks_blocked()
        feed.publish(event(1))
        await anyio.wait_all_tasks_blocked()
        assert seen == [[1]] * len(seen)
        tasks.cancel_scope.cancel()


async def test_one_that_is_cancelled_while_others_are_resumed_is_left_out() -> None:
    feed, resumed, total = Feed(), list[int](), BATCH * 20
    scopes = [anyio.CancelScope() for _ in range(total)]

    async def subscriber(number: int) -> None:
        with scopes[number]:
            await anext(feed.subscribe())
            resumed.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(total):
            tasks.start_soon(subscriber, number)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(feed.deliver)
        feed.publish(event(1))
        for number in range(1, total, 2):  # some are scheduled to run already, some wait in rows
            scopes[number].cancel()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert len(resumed) == len(set(resumed)), "nobody is resumed twice"
    assert set(range(0, total, 2)) <= set(resumed), "who stays is told"
    assert len(resumed) < total, "who left is not"


async def test_a_cancelled_subscription_can_be_taken_up_again_and_has_lost_nothing() -> None:
    feed = Feed()
    subscription = feed.subscribe()
    with anyio.move_on_after(0):
        await anext(subscription)
    feed.publish(event(1))
    assert (await anext(subscription)).sequence == 1


async def test_an_event_between_cancelling_and_leaving_is_not_lost() -> None:
    feed, seen = Feed(), list[int]()
    scope = anyio.CancelScope()

    async def subscriber() -> None:
        subscription = feed.subscribe()
        with scope:
            await anext(subscription)
        seen.append((await anext(subscription)).sequence)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(subscriber)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        feed.publish(event(1))  # its task has not run yet
    assert seen == [1]


async def test_subscribers_that_leave_leave_nothing_behind() -> None:
    feed = Feed()
    async with anyio.create_task_group() as tasks:
        for _ in range(BATCH * 3 + 5):
            tasks.start_soon(collect, feed, [])
        await anyio.wait_all_tasks_blocked()
        assert [len(batch) for batch in feed._batches] == [BATCH, BATCH, BATCH, 5]
        tasks.cancel_scope.cancel()
    assert sum(len(batch) for batch in feed._batches) == 0
    assert len(feed._batches) <= 1


async def test_waiting_and_leaving_over_and_over_does_not_grow() -> None:
    feed = Feed()
    for _ in range(3 * BATCH):
        with anyio.move_on_after(0):
            await anext(feed.subscribe())
    assert len(feed._batches) <= 1


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


async def test_a_subscription_that_two_tasks_share_gives_each_event_to_one_of_them() -> None:
    feed, seen = Feed(), list[int]()
    shared = feed.subscribe()

    async def read() -> None:
        async for item in shared:
            seen.append(item.sequence)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.deliver)
        tasks.start_soon(read)
        tasks.start_soon(read)
        for number in range(1, 6):
            await anyio.wait_all_tasks_blocked()
            feed.publish(event(number))
        await anyio.wait_all_tasks_blocked()
        feed.close()
    assert sorted(seen) == [1, 2, 3, 4, 5]
