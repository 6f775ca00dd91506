"""Places in a stream of Redis: the ids of its entries, such as `1700000000000-0`."""

FIRST_PLACE = "0-0"
"""Before everything that a stream can hold."""


def place_key(place: str) -> tuple[int, int]:
    """What to compare places by."""
    milliseconds, _, number = place.partition("-")
    return int(milliseconds), int(number)
