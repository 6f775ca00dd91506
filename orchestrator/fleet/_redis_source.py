"""What a reader asks Redis, and what it makes of the replies, none of which is trusted.

Replies come from RESP2. A reply of the wrong shape means that something other than Redis answers,
and raises `UnexpectedReplyError`.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

from orchestrator.fleet._decode import decode_entry, decode_state
from orchestrator.fleet._fleet_source import StreamEntry
from orchestrator.fleet._reader_link import ReaderLink, RefusedReply
from orchestrator.fleet._wire import (
    SERVICES_KEY,
    FleetKeys,
    FleetState,
    Unreadable,
    is_service_name,
)

_PAGE = 200
"""How many states are asked for at once: some 100 kB."""

MOST_ENTRIES_AT_ONCE = 1000
_PAIR = 2
_MOST_PLACE_CHARACTERS = 41
"""Two numbers of 64 bits, and what stands between them."""

_MOST_SERVICES = 1000
_RECENT_SECONDS = 2 * 86_400.0

States = Mapping[str, FleetState | Unreadable]


class UnexpectedReplyError(Exception):
    """A reply has another shape than it should have."""


class RedisSource:
    """Asks one Redis for one service.

    Args:
        link: The connection.
        keys: The keys of the service.
    """

    def __init__(self, link: ReaderLink, keys: FleetKeys) -> None:
        self.link = link
        self.keys = keys

    def is_replica(self) -> bool | None:
        """Whether it follows another one; `None` if it does not say, as some proxies do not."""
        try:
            role = _fields(self.link.ask_one("HELLO")).get(b"role")
        except RefusedReply:
            return None
        return role != b"master" if isinstance(role, bytes) else None

    def last_id(self) -> str | None:
        """The last id that the stream has given; `None` without a stream."""
        try:
            reply = self.link.ask_one("XINFO", "STREAM", self.keys.events)
        except RefusedReply as error:
            if "no such key" in error.text:
                return None
            raise
        return _place(_fields(reply).get(b"last-generated-id"))

    def all_states(self, most: int) -> States:
        """All states, page by page; after more than `most` it stops."""
        states: dict[str, FleetState | Unreadable] = {}
        cursor = b"0"
        while True:
            command = ("HSCAN", self.keys.instances, cursor, "COUNT", _PAGE)
            cursor_reply, page = _pair(self.link.ask_one(*command))
            cursor = _bytes(cursor_reply)
            states.update(_decoded(_pairs(page)))
            if cursor == b"0" or len(states) > most:
                return states

    def some_states(self, incarnations: Collection[str]) -> States:
        """The states of these, as far as there are any."""
        states: dict[str, FleetState | Unreadable] = {}
        wanted = [*incarnations]
        for first in range(0, len(wanted), _PAGE):
            page = wanted[first : first + _PAGE]
            commands = [("HGET", self.keys.instances, incarnation) for incarnation in page]
            replies = self.link.ask(*commands)
            _raise_first(replies)
            found = zip(map(str.encode, page), replies, strict=True)
            states.update(_decoded((name, value) for name, value in found if value is not None))
        return states

    def entries_after(self, place: str, block_seconds: float) -> Sequence[StreamEntry]:
        """Entries after the place, waiting for the first for so long."""
        block = ("BLOCK", max(1, int(block_seconds * 1000))) if block_seconds > 0 else ()
        command = ("XREAD", "COUNT", MOST_ENTRIES_AT_ONCE, *block)
        reply = self.link.ask_one(*command, "STREAMS", self.keys.events, place)
        return entries_of_streams(reply)

    def ended_leases(self, most: int) -> tuple[Mapping[str, float], int]:
        """For each lease that has ended, how many seconds ago; and how many leases there are."""
        now = self.redis_now()
        until = f"{now:.6f}"
        by_score = ("ZRANGEBYSCORE", self.keys.leases, "-inf", until, "WITHSCORES")
        replies = self.link.ask((*by_score, "LIMIT", 0, most), ("ZCARD", self.keys.leases))
        _raise_first(replies)
        ended, count = replies
        if not isinstance(count, int):
            raise UnexpectedReplyError
        return {_text(one): now - _number(score) for one, score in _pairs(ended)}, count

    def all_leases(self, most: int) -> Collection[str]:
        """The incarnations that have a lease, ended ones among them."""
        reply = self.link.ask_one("ZRANGE", self.keys.leases, 0, most - 1)
        return {_text(one) for one in _items(reply)}

    def redis_now(self) -> float:
        """Redis' own time, in Unix seconds."""
        seconds, microseconds = _pair(self.link.ask_one("TIME"))
        return _number(seconds) + _number(microseconds) / 1e6


def services_of(link: ReaderLink) -> list[str]:
    """The services that publish to a Redis: those of the last two days, else all, in order."""
    reply = link.ask_one("ZRANGE", SERVICES_KEY, -_MOST_SERVICES, -1, "WITHSCORES")
    seconds, _ = _pair(link.ask_one("TIME"))
    seen = {_text(name): _number(score) for name, score in _pairs(reply)}
    seen = {name: score for name, score in seen.items() if is_service_name(name)}
    recent = [name for name, score in seen.items() if score > _number(seconds) - _RECENT_SECONDS]
    return sorted(recent or seen)


def entries_of_streams(reply: object, *, again: bool = False) -> list[StreamEntry]:
    """The entries of the one stream that was asked for."""
    if reply is None:
        return []
    return [entry for one in _items(reply) for entry in entries_of(_pair(one)[1], again=again)]


def entries_of(reply: object, *, again: bool = False) -> list[StreamEntry]:
    """The entries of a part of a stream."""
    entries = []
    for one in _items(reply):
        place, fields = _pair(one)
        if fields is None:  # deleted meanwhile
            continue
        told = {_bytes(name): _bytes(value) for name, value in _pairs(fields)}
        entries.append(StreamEntry(_place(place), decode_entry(told), again))
    return entries


def _decoded(pairs: Iterator[tuple[object, object]]) -> States:
    states: dict[str, FleetState | Unreadable] = {}
    for name, value in pairs:
        incarnation = _bytes(name)
        states[_text(incarnation)] = decode_state(incarnation, _bytes(value))
    return states


def _raise_first(replies: Sequence[object]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def _items(reply: object) -> list[object]:
    if not isinstance(reply, list):
        raise UnexpectedReplyError
    return reply


def _pair(reply: object) -> tuple[object, object]:
    items = _items(reply)
    if len(items) != _PAIR:
        raise UnexpectedReplyError
    return items[0], items[1]


def _pairs(reply: object) -> Iterator[tuple[object, object]]:
    items = _items(reply)
    if len(items) % _PAIR:
        raise UnexpectedReplyError
    return zip(items[::2], items[1::2], strict=True)


def _fields(reply: object) -> Mapping[bytes | None, object]:
    """Names and values, which stand in turn."""
    items = _items(reply)
    return dict(zip(map(_bytes_or_none, items[::2]), items[1::2], strict=False))


def _bytes(reply: object) -> bytes:
    if not isinstance(reply, bytes):
        raise UnexpectedReplyError
    return reply


def _bytes_or_none(reply: object) -> bytes | None:
    return reply if isinstance(reply, bytes) else None


def second_of(reply: object) -> object:
    """What comes second in a reply."""
    return _items(reply)[1] if len(_items(reply)) > 1 else []


def _text(reply: object) -> str:
    return _bytes(reply).decode(errors="backslashreplace")


def _number(reply: object) -> float:
    with contextlib.suppress(ValueError):
        return float(_bytes(reply))
    raise UnexpectedReplyError


def _place(reply: object) -> str:
    place = _bytes(reply).decode(errors="replace")
    milliseconds, _, number = place.partition("-")
    is_place = milliseconds.isdecimal() and number.isdecimal()
    if not is_place or len(place) > _MOST_PLACE_CHARACTERS:
        raise UnexpectedReplyError
    return place
