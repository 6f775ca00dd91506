"""Whatever Redis loses, and whenever: each change is delivered once and in order, or counted."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.fleet._changes import ChangeBook
from orchestrator.fleet._fleet_reader import Delivery, FleetReader
from orchestrator.fleet._news import Change, FleetNews, Missed
from orchestrator.fleet._presence import PresenceVerdict
from tests.fleet.simulated_redis import SimulatedRedis

NAMES = ["a.0000000000000001", "b.0000000000000002", "c.0000000000000003"]

Event = tuple[str, int]

events: st.SearchStrategy[Event] = st.tuples(
    st.sampled_from(
        [
            "change",
            "change",
            "change",
            "burst",
            "flush",
            "stream",
            "trim",
            "states",
            "behind",
            "clock",
            "break",
            "part",
            "elsewhere",
            "failover",
        ]
    ),
    st.integers(0, 5),
)
_ONLY_AWAY = ("change", "elsewhere", "elsewhere", "failover", "failover", "break")
nothing_lost = st.tuples(st.sampled_from(_ONLY_AWAY), st.integers(0, 5))
turns = st.lists(
    st.tuples(
        st.sampled_from(["turn", "turn", "turn", "connect", "resume"]), st.lists(events, max_size=4)
    ),
    max_size=25,
)


class Follower:
    """A reader, and what it was given."""

    def __init__(self) -> None:
        self.happening: list[Callable[[], None]] = []
        self.redis = SimulatedRedis(NAMES, self._happen)
        self.given: dict[str, list[int]] = defaultdict(list)
        self.missed: dict[str, int] = defaultdict(int)
        self.began_at: Mapping[str, int] = {}
        self.at = 0.0
        self.connected = False
        self.reader = self._new(None)

    def _new(self, before: ChangeBook | None) -> FleetReader:
        book = ChangeBook("chat")
        if before is not None:
            book = ChangeBook("chat", before.place, before.seen)
        return FleetReader(book, lambda: self.at, lambda: self.at)

    def _happen(self) -> None:
        if self.happening:
            self.happening.pop(0)()

    def _break(self) -> None:
        self.connected = False
        raise ConnectionError

    def _fail_over(self) -> None:
        self.redis.fail_over()
        self._break()

    def does(self, event: Event) -> Callable[[], None]:
        kind, number = event
        name = NAMES[number % len(NAMES)]
        redis = self.redis
        happens: dict[str, Callable[[], None]] = {
            "change": partial(redis.change, name),
            "burst": partial(redis.change, name, number + 1),
            "flush": redis.flush,
            "stream": redis.lose_stream,
            "trim": partial(redis.trim, number),
            "states": redis.lose_states,
            "behind": partial(redis.fall_behind, number),
            "clock": redis.turn_clock_back,
            "break": self._break,
            "part": redis.part,
            "elsewhere": partial(redis.change_elsewhere, name, number + 1),
            "failover": self._fail_over,
        }
        return happens[kind]

    def act(self, action: str, meanwhile: list[Event]) -> None:
        self.happening += [self.does(event) for event in meanwhile]
        self.at += 0.5
        self.redis.at = self.at
        if action == "resume":
            self.reader = self._new(self.reader.book)
        try:
            if action == "turn" and self.connected:
                self.take(self.reader.turn(self.redis))
            else:
                self.take(self.reader.connect(self.redis))
                self.connected = True
        except ConnectionError:
            self.take(self.reader.lose("the connection broke"))
        while self.happening:
            with suppress(ConnectionError):
                self.happening.pop(0)()

    def take(self, delivery: Delivery) -> None:
        if delivery.seen is not None and not self.began_at:
            self.began_at = dict.fromkeys(NAMES, 0) | dict(delivery.seen)
        for one in delivery.news:
            self._take(one)

    def _take(self, one: FleetNews) -> None:
        if isinstance(one, Missed):
            assert one.count > 0
            self.missed[one.instance.incarnation] += one.count
        elif isinstance(one, Change):
            name = one.instance.incarnation
            before = self.began_at[name] + self.missed[name] + len(self.given[name])
            assert one.changed.sequence == before + 1, "a gap unsaid, or out of order, or twice"
            self.given[name].append(one.changed.sequence)

    def settle(self) -> None:
        """All publishers beat, and the reader goes on until nothing comes any more."""
        self.act("turn", [])  # or connect again
        for _ in range(2):
            for name in NAMES:
                if self.redis.sequences[name]:
                    self.redis.beat(name)
            for _ in range(40):
                self.at += 0.5
                self.redis.at = self.at
                self.take(self.reader.turn(self.redis))


@settings(max_examples=100)
@given(turns)
def test_every_change_is_delivered_once_and_in_order_or_counted(
    actions: list[tuple[str, list[Event]]],
) -> None:
    follower = Follower()
    follower.act("connect", [])
    for action, meanwhile in actions:
        follower.act(action, meanwhile)
    follower.settle()
    for name in NAMES:
        told = len(follower.given[name]) + follower.missed[name]
        assert follower.began_at[name] + told == follower.redis.sequences[name]


@settings(max_examples=50)
@given(turns)
def test_the_view_becomes_what_the_instances_say(actions: list[tuple[str, list[Event]]]) -> None:
    follower = Follower()
    follower.act("connect", [])
    for action, meanwhile in actions:
        follower.act(action, meanwhile)
    follower.settle()
    for name in NAMES:
        if follower.redis.sequences[name]:
            state = follower.reader.book.states[name]
            assert state.entry.sequence == follower.redis.sequences[name]


@settings(max_examples=50)
@given(turns)
def test_nothing_is_missed_while_nothing_is_lost(actions: list[tuple[str, list[Event]]]) -> None:
    """Whenever a reader begins, connects anew, or reads the states again: they may be ahead."""
    follower = Follower()
    follower.act("connect", [])
    for action, meanwhile in actions:
        follower.act(action, [("change", number) for _, number in meanwhile])
    follower.settle()
    assert not any(follower.missed.values())


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(["turn", "turn", "connect", "resume"]), st.lists(nothing_lost)),
        max_size=25,
    )
)
def test_nothing_is_missed_of_two_masters_that_instances_tell_in_turn(
    actions: list[tuple[str, list[Event]]],
) -> None:
    """One of them was cut off, or frozen: the reader's place in it is none in the other."""
    follower = Follower()
    follower.redis.kept = 10**6
    follower.act("connect", [])
    for action, meanwhile in actions:
        follower.act(action, meanwhile)
    follower.settle()
    assert not any(follower.missed.values())


def test_a_stream_that_counts_from_an_earlier_time_is_read_from_its_beginning() -> None:
    follower = Follower()
    follower.redis.change(NAMES[0], 2)
    follower.act("connect", [])
    follower.redis.flush()
    follower.redis.turn_clock_back()
    follower.redis.change(NAMES[0], 2)
    for _ in range(8):
        follower.act("turn", [])
    assert follower.given[NAMES[0]] == [3, 4]
    assert not any(follower.missed.values())


def test_instances_of_before_are_no_news_to_a_reader_that_reads_the_stream_anew() -> None:
    follower = Follower()
    gone, here, _ = NAMES
    follower.redis.change(gone, 2)
    follower.redis.states.pop(gone)  # it has ended long ago, and is swept
    follower.redis.change(here, 3)
    follower.act("connect", [])
    follower.redis.fall_behind(1)
    follower.act("connect", [])
    follower.redis.change(here)
    for _ in range(3):
        follower.act("turn", [])
    assert dict(follower.given) == {here: [4]}
    assert set(follower.reader.instances) == {here}


def test_what_redis_loses_just_before_it_is_read_is_waited_for() -> None:
    follower = Follower()
    follower.act("connect", [])
    follower.redis.change(NAMES[0], 3)
    follower.act("connect", [])  # the states are read, and the stream not yet
    follower.redis.flush()
    follower.act("turn", [])
    follower.redis.beat(NAMES[0])
    follower.act("turn", [])
    assert follower.given[NAMES[0]] == [1, 2, 3]
    assert not any(follower.missed.values())


def test_a_state_of_before_says_nothing_about_a_stream_that_is_told_again() -> None:
    follower = Follower()
    follower.act("connect", [])
    follower.redis.change(NAMES[0], 4)
    follower.act("connect", [])  # it knows that there are four, and has none of them
    follower.redis.flush()
    follower.redis.sequences[NAMES[0]] = 2  # so far it has told again
    follower.redis.beat(NAMES[0])
    follower.act("connect", [])
    follower.act("turn", [])
    follower.redis.sequences[NAMES[0]] = 4
    follower.redis.beat(NAMES[0])
    follower.settle()
    assert follower.given[NAMES[0]] == [1, 2, 3, 4]


def test_what_a_stream_has_lost_is_counted_once_publishers_had_time_to_notice() -> None:
    follower = Follower()
    follower.act("connect", [])
    follower.redis.change(NAMES[0], 3)
    follower.act("connect", [])
    follower.redis.trim()
    for _ in range(29):
        follower.act("turn", [])
    assert not follower.given[NAMES[0]]
    for _ in range(3):
        follower.act("turn", [])
    assert follower.given[NAMES[0]] == [3]
    assert follower.missed[NAMES[0]] == 2


def test_instances_that_live_while_redis_is_away_for_long_are_never_called_silent() -> None:
    follower = Follower()
    for name in NAMES:
        follower.redis.change(name)
    follower.act("connect", [])
    assert presences(follower) == {PresenceVerdict.ALIVE}
    follower.at = 100.0
    follower.reader.lose("away")
    assert presences(follower) == {PresenceVerdict.UNKNOWN}
    follower.at = follower.redis.at = 130.0  # all leases have ended long ago
    follower.act("connect", [])
    assert presences(follower) == {PresenceVerdict.UNKNOWN}
    for _ in range(20):
        for name in NAMES:
            follower.redis.beat(name)
        follower.act("turn", [])
        assert PresenceVerdict.SILENT not in presences(follower)
    assert presences(follower) == {PresenceVerdict.ALIVE}


def presences(follower: Follower) -> set[PresenceVerdict]:
    return {one.presence for one in follower.reader.instances.values()}
