"""Where a reader stopped, as a string that another one goes on from."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping

from orchestrator.fleet._changes import MOST_INSTANCES
from orchestrator.fleet._stream_place import place_key

_VERSION = "1"
_MOST_BYTES = 16 * 1024 * 1024
_REMEDY = "give the text of `fleet.cursor`, unchanged"


def encode_cursor(place: str, seen: Mapping[str, int]) -> str:
    """The cursor of a place, and of the last sequence of each incarnation there."""
    told = json.dumps([place, seen], separators=(",", ":")).encode()
    return f"{_VERSION}.{base64.urlsafe_b64encode(zlib.compress(told)).decode()}"


def decode_cursor(cursor: str) -> tuple[str, dict[str, int]]:
    """The place, and the last sequence of each incarnation.

    Raises:
        ValueError: When it is none.
    """
    version, _, text = cursor.partition(".")
    if version != _VERSION:
        raise ValueError(f"the cursor is none of this version: {_REMEDY}")
    try:
        inflating = zlib.decompressobj()
        told = inflating.decompress(base64.b64decode(text, b"-_", validate=True), _MOST_BYTES)
        place, seen = json.loads(told)
        place_key(place)
        if len(seen) > MOST_INSTANCES or not all(type(one) is int for one in seen.values()):
            raise ValueError
        return place, dict(seen)
    except (ValueError, TypeError, AttributeError, binascii.Error, zlib.error, RecursionError):
        raise ValueError(f"the cursor is damaged: {_REMEDY}") from None
