"""What a fleet writes to Redis is read as it was meant, and what is forged is not read at all."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet._decode import decode_entry, decode_mark, decode_state
from orchestrator.fleet._encode import encode_entry, encode_state
from orchestrator.fleet._wire import (
    ENTRY_FIELDS,
    FleetCondition,
    FleetEntry,
    FleetState,
    Unreadable,
    fleet_keys,
    new_incarnation,
)
from states import Failure, FailureKind, Stage

ENTRY = FleetEntry(
    incarnation="chat-7d9f.0011223344556677",
    instance="chat-7d9f",
    version="1.2.3",
    sequence=7,
    previous=Stage.GRACE,
    current=Stage.READY,
    fact="TimerFired",
    cause="grace is served",
    at=1764162131.123,
    elapsed_seconds=0.507,
)
STATE = FleetState(
    entry=ENTRY,
    service="chat",
    started_at=1764162129.5,
    lease_seconds=6.0,
    beat_seconds=2.0,
    waits_for=("condition database (after redis)",),
    attempts=3,
    failures_in_row=1,
    failure=Failure(FailureKind.PERMANENT, "AuthenticationError", "the password is wrong"),
    conditions={
        "database": FleetCondition(satisfied=False, reason="after redis"),
        "cache": FleetCondition(required=False),
    },
    stuck_since=1764162140.0,
    left=True,
    draining=True,
    startup_seconds=2.3,
    steps={"database": 1.8, "redis": 0.1},
)


def as_read(words: list[str]) -> dict[bytes, bytes]:
    return {
        name.encode(): value.encode() for name, value in zip(words[::2], words[1::2], strict=True)
    }


def read_back(state: FleetState) -> FleetState | Unreadable:
    value = f"{state.entry.sequence} {encode_state(state)}".encode()
    return decode_state(state.entry.incarnation.encode(), value)


texts = st.text(max_size=300)
names = st.text(max_size=200)
seconds = st.floats(0, 1e9).map(lambda number: round(number, 3))
counts = st.integers(0, 2**53 - 1)
failures = st.builds(Failure, st.sampled_from(FailureKind), names, texts, st.just(False))
conditions = st.builds(FleetCondition, st.booleans(), st.booleans(), texts)


@st.composite
def entries(draw: st.DrawFn) -> FleetEntry:
    incarnation = new_incarnation(draw(names))
    return FleetEntry(
        incarnation=incarnation,
        instance=incarnation.rpartition(".")[0],
        version=draw(names),
        sequence=draw(st.integers(1, 2**53 - 1)),
        previous=draw(st.sampled_from(Stage)),
        current=draw(st.sampled_from(Stage)),
        fact=draw(st.sampled_from(["ProbeFailed", "TimerFired"])),
        cause=draw(texts),
        at=draw(seconds),
        elapsed_seconds=draw(seconds),
    )


states = st.builds(
    FleetState,
    entry=entries(),
    service=st.just("chat"),
    started_at=seconds,
    lease_seconds=seconds,
    beat_seconds=seconds,
    waits_for=st.lists(texts, max_size=20).map(tuple),
    untold=st.integers(0, 300),
    held_back=texts,
    attempts=counts,
    failures_in_row=counts,
    failure=st.none() | failures,
    conditions=st.dictionaries(names, conditions, max_size=70),
    stuck_since=st.none() | seconds,
    left=st.booleans(),
    draining=st.booleans(),
    startup_seconds=st.none() | seconds,
    steps=st.dictionaries(names, seconds, max_size=20),
)


def test_an_entry_is_read_as_it_was_written() -> None:
    words = encode_entry(ENTRY)
    assert tuple(words[::2]) == ENTRY_FIELDS
    assert decode_entry(as_read(words)) == ENTRY


def test_a_state_is_read_as_it_was_written() -> None:
    assert read_back(STATE) == STATE


@given(entries())
def test_every_entry_that_is_written_can_be_read_and_has_at_most_1_kib(entry: FleetEntry) -> None:
    words = encode_entry(entry)
    assert len("".join(words).encode()) <= 1024
    read = decode_entry(as_read(words))
    assert isinstance(read, FleetEntry)
    assert (read.incarnation, read.sequence) == (entry.incarnation, entry.sequence)


@given(states)
def test_every_state_that_is_written_can_be_read_and_has_at_most_2_kib(state: FleetState) -> None:
    assert len(encode_state(state).encode()) <= 2048
    read = read_back(state)
    assert isinstance(read, FleetState), read
    assert read.attempts == state.attempts


def test_where_there_is_little_room_what_does_not_hold_is_kept_first() -> None:
    many = {f"c{i}": FleetCondition(reason="x" * 200) for i in range(40)}
    many["database"] = FleetCondition(satisfied=False, reason="after redis")
    read = read_back(replace(STATE, conditions=many))
    assert isinstance(read, FleetState)
    assert read.conditions["database"] == FleetCondition(satisfied=False, reason="after redis")


FORGED_FIELDS = [
    ("v", b"2"),
    ("v", b"one"),
    ("v", b""),
    ("incarnation", b"other.0011223344556677"),
    ("incarnation", b"chat-7d9f.x"),
    ("instance", b"chat\x1b[2J"),
    ("instance", "chat\u202e".encode()),
    ("instance", b"x" * 129),
    ("version", b"\xff"),
    ("sequence", b"0"),
    ("sequence", b"-1"),
    ("sequence", b"9" * 17),
    ("sequence", "٣".encode()),
    ("previous", b"asleep"),
    ("current", b""),
    ("fact", b"<script>"),
    ("cause", b"x" * 201),
    ("cause", b"one\ntwo"),
    ("at", b"nan"),
    ("at", b"1e400"),
    ("elapsed", b"-0.5"),
]


@pytest.mark.parametrize(("name", "value"), FORGED_FIELDS)
def test_a_forged_entry_is_unreadable(name: str, value: bytes) -> None:
    forged = as_read(encode_entry(ENTRY)) | {name.encode(): value}
    assert isinstance(decode_entry(forged), Unreadable)


@pytest.mark.parametrize("name", ENTRY_FIELDS)
def test_an_entry_without_one_of_its_fields_is_unreadable(name: str) -> None:
    fields = as_read(encode_entry(ENTRY))
    del fields[name.encode()]
    assert isinstance(decode_entry(fields), Unreadable)


def test_fields_that_are_not_known_are_ignored() -> None:
    assert decode_entry(as_read(encode_entry(ENTRY)) | {b"novel": b"\xff"}) == ENTRY
    told = json.loads(encode_state(STATE)) | {"novel": [1]}
    assert decode_state(ENTRY.incarnation.encode(), f"7 {json.dumps(told)}".encode()) == STATE


FORGED_STATE: list[Mapping[str, object]] = [
    {"v": 2},
    {"v": True},
    {"service": "chat}"},
    {"sequence": "7.5"},
    {"sequence": 8},
    {"incarnation": "chat-7d9f.0011223344556688"},
    {"started_at": float("nan")},
    {"started_at": float("inf")},
    {"started_at": "0"},
    {"lease": -1},
    {"attempts": 1.5},
    {"attempts": True},
    {"waits_for": "redis"},
    {"waits_for": ["\x1b]0;x"]},
    {"untold": -1},
    {"untold": True},
    {"held_back": 7},
    {"held_back": "\x1b]0;x"},
    {"waits_for": ["x"] * 17},
    {"failure": []},
    {"failure": {"kind": "fatal", "error_type": "", "reason": ""}},
    {"failure": {"kind": ["permanent"]}},
    {"conditions": [1]},
    {"conditions": {"a\n": {}}},
    {"conditions": {"a": None}},
    {"conditions": {"a": {"satisfied": 1}}},
    {"steps": {"a": "1"}},
    {"steps": {str(i): 1 for i in range(17)}},
    {"stuck_since": "now"},
    {"left": 0},
    {"draining": None},
    {"cause": 3},
]


@pytest.mark.parametrize("forged", FORGED_STATE, ids=str)
def test_a_forged_state_is_unreadable(forged: Mapping[str, object]) -> None:
    text = json.dumps(json.loads(encode_state(STATE)) | dict(forged))
    assert isinstance(decode_state(ENTRY.incarnation.encode(), f"7 {text}".encode()), Unreadable)


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda more: b"7 " + more))
def test_whatever_is_in_the_hash_is_read_or_unreadable(value: bytes) -> None:
    assert isinstance(decode_state(b"i.0011223344556677", value), Unreadable)
    assert isinstance(decode_mark(value), int | Unreadable)


def test_json_that_is_too_deep_or_too_long_is_unreadable() -> None:
    for value in (b"1 " + b"[" * 8000, b"1 " + b"[" * 100_000, b"1 " + b"9" * 5000):
        assert isinstance(decode_state(b"i", value), Unreadable)


@pytest.mark.parametrize("name", ["", "a b", "chat}", "{chat", "ä", "x" * 65, "a\n"])
def test_a_service_name_that_cannot_be_in_a_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        fleet_keys(name)


def test_all_keys_of_a_service_share_one_hash_tag() -> None:
    assert {key.partition("}")[0] for key in fleet_keys("chat")} == {"{orchestrator:chat"}


def test_no_two_incarnations_have_one_name() -> None:
    assert len({new_incarnation("chat") for _ in range(100)}) == 100
