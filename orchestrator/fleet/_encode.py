"""Entries and states as they are written to Redis, none longer than it may be. Pure."""

import json
from dataclasses import replace
from typing import NamedTuple

from orchestrator._hardening.text import one_line
from orchestrator.fleet._wire import (
    MOST_CONDITIONS,
    MOST_NAME_BYTES,
    MOST_STEPS,
    MOST_WAITS,
    MOST_WORDS,
    VERSION,
    FleetCondition,
    FleetEntry,
    FleetState,
    shorten,
)

_MOST_ENTRY_BYTES = 1024
_MOST_STATE_BYTES = 2048


def encode_entry(entry: FleetEntry) -> list[str]:
    """The fields of an entry for the stream, each name followed by its value; 1 KiB at most."""
    own = _shortened(entry)
    fields = _fields(own)
    over = sum(len(word.encode()) for word in fields) - _MOST_ENTRY_BYTES
    if over > 0:
        fields = _fields(replace(own, cause=shorten(own.cause, len(own.cause.encode()) - over)))
    return fields


def _fields(entry: FleetEntry) -> list[str]:
    return [word for pair in _pairs(entry).items() for word in map(str, pair)]


def _pairs(entry: FleetEntry) -> dict[str, object]:
    return {
        "v": VERSION,
        "incarnation": entry.incarnation,
        "instance": entry.instance,
        "version": entry.version,
        "sequence": entry.sequence,
        "previous": entry.previous.value,
        "current": entry.current.value,
        "fact": entry.fact,
        "cause": entry.cause,
        "at": f"{entry.at:.3f}",
        "elapsed": f"{entry.elapsed_seconds:.3f}",
    }


def _shortened(entry: FleetEntry) -> FleetEntry:
    return replace(
        entry,
        instance=shorten(entry.instance, MOST_NAME_BYTES),
        version=shorten(entry.version, MOST_NAME_BYTES),
        fact=entry.fact,
        cause=one_line(entry.cause, MOST_WORDS),
    )


class _Room(NamedTuple):
    """How much of a state's lists is written."""

    words: int
    waits: int
    conditions: int
    steps: int


_ROOMS = (
    _Room(MOST_WORDS, MOST_WAITS, MOST_CONDITIONS, MOST_STEPS),
    _Room(80, 8, 32, 8),
    _Room(40, 4, 12, 4),
    _Room(20, 2, 4, 2),
    _Room(20, 1, 0, 0),
)


def encode_state(state: FleetState) -> str:
    """A state as JSON of 2 KiB at most: the longer it is, the less of its lists is written."""
    text = ""
    for room in _ROOMS:
        text = json.dumps(_state_pairs(state, room), ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) <= _MOST_STATE_BYTES:
            break
    return text


def _state_pairs(state: FleetState, room: _Room) -> dict[str, object]:
    entry = _shortened(state.entry)
    entry = replace(entry, cause=one_line(entry.cause, room.words))
    failure = state.failure
    # What does not hold is worth more than what does.
    by_worth = sorted(state.conditions.items(), key=lambda one: one[1].satisfied)
    steps = list(state.steps.items())[: room.steps]
    return {
        **_pairs(entry),
        "service": state.service,
        "started_at": _rounded(state.started_at),
        "lease": state.lease_seconds,
        "beat": state.beat_seconds,
        "waits_for": [one_line(words, room.words) for words in state.waits_for[: room.waits]],
        "attempts": state.attempts,
        "failures_in_row": state.failures_in_row,
        "failure": None
        if failure is None
        else {
            "kind": failure.kind.value,
            "error_type": shorten(failure.error_type, MOST_NAME_BYTES),
            "reason": one_line(failure.reason, room.words),
        },
        "conditions": {
            shorten(name, MOST_NAME_BYTES): _condition_pairs(one, room.words)
            for name, one in by_worth[: room.conditions]
        },
        "stuck_since": _rounded(state.stuck_since),
        "left": state.left,
        **_untold_pairs(state, room.words),
        "draining": state.draining,
        "startup_seconds": _rounded(state.startup_seconds),
        "steps": {shorten(name, MOST_NAME_BYTES): _rounded(seconds) for name, seconds in steps},
    }


def _untold_pairs(state: FleetState, most_words: int) -> dict[str, object]:
    """Only if there are any."""
    if not (state.untold or state.held_back):
        return {}
    return {"untold": state.untold, "held_back": one_line(state.held_back, most_words)}


def _condition_pairs(condition: FleetCondition, most_words: int) -> dict[str, object]:
    """Only what is not as usual."""
    pairs: dict[str, object] = {}
    if not condition.satisfied:
        pairs["satisfied"] = False
    if not condition.required:
        pairs["required"] = False
    if condition.reason:
        pairs["reason"] = one_line(condition.reason, most_words)
    return pairs


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
