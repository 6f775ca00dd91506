"""The law of the mark: whatever happens between a publisher and Redis, order and gaps are kept.

Redis is a model here: its stream and its mark, either of which it may lose, and replies that may.
"""

import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.fleet._backlog import MOST_KEPT, EntryBatch, FleetBacklog
from tests.fleet.test_wire import ENTRY

CHANGE, APPEND, BEAT, LOSE_REPLY, FLUSH, LOSE_STREAM, LOSE_HASH, OLD_REPLICA, COPY, FORGE = range(
    10
)

steps = st.lists(
    st.tuples(
        st.sampled_from([CHANGE, CHANGE, CHANGE, APPEND, APPEND, BEAT, LOSE_REPLY])
        | st.integers(CHANGE, FORGE),
        st.integers(1, 300),
    ),
    max_size=60,
)


class ModelRedis:
    """What the two scripts do."""

    def __init__(self) -> None:
        self.stream: list[int] = []
        self.mark = 0
        self.copy: tuple[list[int], int] = ([], 0)

    def append(self, batch: EntryBatch) -> int:
        if batch.mark == self.mark:
            self.stream += [entry.sequence for entry in batch.entries]
            self.mark = batch.entries[-1].sequence
        return self.mark


class World:
    """A publisher, Redis, and what a reader would see of them."""

    def __init__(self) -> None:
        self.redis = ModelRedis()
        self.backlog = FleetBacklog()
        self.changes = 0
        self.lossless = True
        self.only_full_losses = True

    def do(self, what: int, number: int) -> None:
        redis = self.redis
        if what == CHANGE:
            for _ in range(number):
                self.changes += 1
                self.backlog.add(replace(ENTRY, sequence=self.changes))
        elif what in (APPEND, LOSE_REPLY):
            batch = self.backlog.batch()
            if batch is not None:
                mark = redis.append(batch)
                if what == APPEND:
                    self.backlog.answered(batch, mark)
        elif what == BEAT:
            self.backlog.knows(redis.mark)
        elif what == COPY:
            redis.copy = list(redis.stream), redis.mark
        else:
            self.lossless = False
            self.only_full_losses &= what in (FLUSH, OLD_REPLICA)
            self._lose(what)

    def _lose(self, what: int) -> None:
        redis = self.redis
        if what in (FLUSH, LOSE_STREAM):
            redis.stream = []
        if what in (FLUSH, LOSE_HASH):
            redis.mark = 0
        if what == OLD_REPLICA:
            redis.stream, redis.mark = list(redis.copy[0]), redis.copy[1]
        if what == FORGE:
            redis.mark = 10_000

    def settle(self) -> None:
        """Redis stays as it is from now on, and the publisher goes on."""
        self.backlog.knows(self.redis.mark)
        for _ in range(20):
            batch = self.backlog.batch()
            if batch is None:
                return
            self.backlog.answered(batch, self.redis.append(batch))
        raise AssertionError("the publisher does not come to an end")


def lived(history: Sequence[tuple[int, int]]) -> World:
    world = World()
    for what, number in history:
        world.do(what, number)
        check(world)
    world.settle()
    check(world)
    return world


def check(world: World) -> None:
    stream, mark = world.redis.stream, world.redis.mark
    if world.lossless or world.only_full_losses:
        assert stream == sorted(set(stream)), "order is broken, or something is there twice"
        assert mark == (stream[-1] if stream else 0), "the mark is ahead of the stream"
    for before, after in pairwise(stream):
        if after <= before:  # sent again, for something was lost
            assert not world.lossless


@given(steps)
@example([(FORGE, 1)])
@example([(CHANGE, 1), (APPEND, 1), (LOSE_HASH, 1)])
def test_no_order_is_broken_and_in_the_end_redis_has_the_last_changes(
    history: Sequence[tuple[int, int]],
) -> None:
    world = lived(history)
    stream, last = world.redis.stream, world.changes
    # Before the first change there is nothing that would put a forged mark right.
    assert last in (0, world.redis.mark)
    assert world.backlog.behind == 0
    if world.lossless and world.changes <= MOST_KEPT:
        assert stream == list(range(1, last + 1))
    if world.only_full_losses:
        kept = [number for number in stream if number > last - MOST_KEPT]
        assert kept == list(range(max(1, last - MOST_KEPT + 1), last + 1))


@given(steps)
def test_what_was_never_sent_is_counted_exactly(history: Sequence[tuple[int, int]]) -> None:
    history = [step for step in history if step[0] in (CHANGE, APPEND, BEAT)]
    world = lived(history)
    assert world.backlog.dropped == world.changes - len(world.redis.stream)
    assert world.backlog.sent == len(world.redis.stream)
    assert world.backlog.sent_again == 0


def test_what_redis_has_lost_is_counted_as_told_again() -> None:
    world = lived([(CHANGE, 10), (APPEND, 1), (FLUSH, 1)])
    assert world.redis.stream == list(range(1, 11))
    assert (world.backlog.sent, world.backlog.sent_again) == (20, 10)


def test_a_mark_that_was_forged_hides_nothing() -> None:
    world = lived([(CHANGE, 3), (APPEND, 1), (CHANGE, 1), (FORGE, 1)])
    assert world.redis.stream[-4:] == [1, 2, 3, 4]
    assert world.redis.mark == 4


def test_figures_can_be_asked_for_while_the_thread_adds_changes() -> None:
    backlog, enough = FleetBacklog(), threading.Event()

    def add() -> None:
        while not enough.is_set():
            backlog.add(ENTRY)

    thread = threading.Thread(target=add)
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(1000):
            assert backlog.behind <= MOST_KEPT
    finally:
        sys.setswitchinterval(before)
        enough.set()
        thread.join()
