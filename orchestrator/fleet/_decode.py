"""Entries and states as they are read from Redis, where anything may be written. Pure.

Nothing that was read gets into an error's text.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.fleet._wire import (
    ENTRY_FIELDS,
    MOST_CONDITIONS,
    MOST_NAME_BYTES,
    MOST_STEPS,
    MOST_WAITS,
    MOST_WORDS,
    VERSION,
    FleetCondition,
    FleetEntry,
    FleetState,
    Unreadable,
    is_service_name,
)
from states import Failure, FailureKind, Stage

_MOST_READ_BYTES = 8192
"""A longer state is not even parsed. Other writers of this version may allow more."""

_MOST_SEQUENCE = 2**53 - 1
"""The largest whole number that Lua, in which Redis' scripts are written, has exactly."""

_MOST_SECONDS = 1e12

_RANDOM_PART = re.compile(r"[0-9a-f]{16}")
_FACT = re.compile(r"[A-Za-z]{1,32}")
_WHOLE = re.compile(r"[0-9]{1,16}")
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class _BadField(Exception):
    """Its text says what is wrong."""


def decode_entry(fields: Mapping[bytes, bytes]) -> FleetEntry | Unreadable:
    """An entry of the stream, as Redis gives it."""
    if sum(len(name) + len(value) for name, value in fields.items()) > _MOST_READ_BYTES:
        return Unreadable("it is too long")
    try:
        known = {name: fields[name.encode()].decode() for name in ENTRY_FIELDS}
        return _entry_of(known)
    except KeyError:
        return Unreadable("it lacks a field")
    except UnicodeDecodeError:
        return Unreadable("it is not UTF-8")
    except _BadField as bad:
        return Unreadable(str(bad))


def decode_mark(value: bytes) -> int | Unreadable:
    """The mark before a state: the last sequence of its incarnation that Redis knows."""
    digits = value[:20].partition(b" ")[0]
    if not digits.isdigit() or int(digits) > _MOST_SEQUENCE:
        return Unreadable("it has no mark")
    return int(digits)


def decode_state(incarnation: bytes, value: bytes) -> FleetState | Unreadable:
    """A state, as it is in the hash under `incarnation`."""
    if len(value) > _MOST_READ_BYTES:
        return Unreadable("it is too long")
    try:
        state = _state_of(json.loads(value.partition(b" ")[2].decode()))
    except _BadField as bad:
        return Unreadable(str(bad))
    except (ValueError, RecursionError):
        return Unreadable("it is no JSON")
    if state.entry.sequence != decode_mark(value):
        return Unreadable("its mark is of another state")
    if state.entry.incarnation.encode() != incarnation:
        return Unreadable("it is of another incarnation")
    return state


def _entry_of(told: Mapping[str, object]) -> FleetEntry:
    _check_version(told.get("v"))
    instance = _name(told, "instance")
    incarnation = told.get("incarnation")
    if not isinstance(incarnation, str) or len(incarnation) > MOST_NAME_BYTES + 17:
        raise _BadField("its incarnation cannot be")
    name, _, random_part = incarnation.rpartition(".")
    if name != instance or not _RANDOM_PART.fullmatch(random_part):
        raise _BadField("its incarnation cannot be")
    fact = told.get("fact")
    if not isinstance(fact, str) or not _FACT.fullmatch(fact):
        raise _BadField("its fact cannot be")
    sequence = _written_number(told, "sequence", _WHOLE)
    if not 0 < sequence <= _MOST_SEQUENCE:
        raise _BadField("its sequence cannot be")
    return FleetEntry(
        incarnation=incarnation,
        instance=instance,
        version=_name(told, "version"),
        sequence=int(sequence),
        previous=_stage(told, "previous"),
        current=_stage(told, "current"),
        fact=fact,
        cause=_words(told.get("cause"), "cause"),
        at=_written_number(told, "at", _SECONDS),
        elapsed_seconds=_written_number(told, "elapsed", _SECONDS),
    )


def _state_of(told: object) -> FleetState:
    if not isinstance(told, dict):
        raise _BadField("it is no JSON object")
    service = told.get("service")
    if not isinstance(service, str) or not is_service_name(service):
        raise _BadField("its service cannot be")
    return FleetState(
        entry=_entry_of({**told, "sequence": str(told.get("sequence")), "v": str(told.get("v"))}),
        service=service,
        started_at=_seconds(told.get("started_at"), "started_at"),
        lease_seconds=_seconds(told.get("lease"), "lease"),
        beat_seconds=_seconds(told.get("beat"), "beat"),
        waits_for=tuple(
            _words(one, "waits_for")
            for one in _items(told.get("waits_for", []), "waits_for", MOST_WAITS)
        ),
        attempts=_count(told.get("attempts", 0), "attempts"),
        failures_in_row=_count(told.get("failures_in_row", 0), "failures_in_row"),
        failure=_failure(told.get("failure")),
        conditions={
            name: _condition(one)
            for name, one in _named(told.get("conditions", {}), "conditions", MOST_CONDITIONS)
        },
        stuck_since=_seconds_or_none(told.get("stuck_since"), "stuck_since"),
        left=_flag(told.get("left", False), "left"),
        untold=_count(told.get("untold", 0), "untold"),
        held_back=_words(told.get("held_back", ""), "held_back"),
        draining=_flag(told.get("draining", False), "draining"),
        startup_seconds=_seconds_or_none(told.get("startup_seconds"), "startup_seconds"),
        steps={
            name: _seconds(one, "steps")
            for name, one in _named(told.get("steps", {}), "steps", MOST_STEPS)
        },
    )


def _check_version(told: object) -> None:
    if not isinstance(told, str) or not _WHOLE.fullmatch(told) or int(told) < 1:
        raise _BadField("its v cannot be")
    if int(told) > VERSION:
        raise _BadField("it is of a later version")


def _name(told: Mapping[str, object], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or len(value) > MOST_NAME_BYTES or not value.isprintable():
        raise _BadField(f"its {name} cannot be")
    return value


def _words(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_WORDS or not value.isprintable():
        raise _BadField(f"its {name} cannot be")
    return value


def _stage(told: Mapping[str, object], name: str) -> Stage:
    try:
        return Stage(_name(told, name))
    except ValueError:
        raise _BadField(f"its {name} cannot be") from None


def _written_number(told: Mapping[str, object], name: str, form: re.Pattern[str]) -> float:
    value = told.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _BadField(f"its {name} cannot be")
    return float(value)


def _seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadField(f"its {name} cannot be")
    if not 0 <= value < _MOST_SECONDS:  # also refuses NaN
        raise _BadField(f"its {name} cannot be")
    return float(value)


def _seconds_or_none(value: object, name: str) -> float | None:
    return None if value is None else _seconds(value, name)


def _count(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_SEQUENCE:
        raise _BadField(f"its {name} cannot be")
    return value


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise _BadField(f"its {name} cannot be")
    return value


def _items(value: object, name: str, most: int) -> Sequence[object]:
    if not isinstance(value, list) or len(value) > most:
        raise _BadField(f"its {name} cannot be")
    return value


def _named(value: object, name: str, most: int) -> Iterable[tuple[str, object]]:
    if not isinstance(value, dict) or len(value) > most:
        raise _BadField(f"its {name} cannot be")
    for key in value:
        if len(key) > MOST_NAME_BYTES or not key.isprintable():
            raise _BadField(f"its {name} cannot be")
    return value.items()


def _failure(value: object) -> Failure | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _BadField("its failure cannot be")
    try:
        kind = FailureKind(_name(value, "kind"))
    except ValueError:
        raise _BadField("its failure cannot be") from None
    return Failure(kind, _name(value, "error_type"), _words(value.get("reason"), "failure"))


def _condition(value: object) -> FleetCondition:
    if not isinstance(value, dict):
        raise _BadField("its conditions cannot be")
    return FleetCondition(
        satisfied=_flag(value.get("satisfied", True), "conditions"),
        required=_flag(value.get("required", True), "conditions"),
        reason=_words(value.get("reason", ""), "conditions"),
    )
