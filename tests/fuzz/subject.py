"""What is fuzzed: an input, and what must hold whatever comes in."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orchestrator._hardening.log_thread import write_at_once

PLANTED = "hunter2-planted"
"""Stands in inputs for what must never be shown: a password, or the text of a server."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One input.

    Attributes:
        name: What it is.
        inputs: What may come in.
        opened: What has to be there meanwhile; its value is handed to `check`.
        check: Puts one input in, and fails where something does not hold.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    opened: Callable[[], AbstractContextManager[Any]]
    check: Callable[[Any, Any], None]

    def fuzz(self, examples: int) -> None:
        """Put in so many inputs.

        Raises:
            AssertionError: When something did not hold; with the smallest input that shows it.
        """
        with self.opened() as place:

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.explicit, Phase.generate, Phase.shrink),
            )
            @given(self.inputs)
            def one(value: object) -> None:
                self.check(place, value)

            one()


def assert_is_a_line(text: str, most: int = 500) -> None:
    """Fit to be shown anywhere."""
    assert text.isprintable(), repr(text[:200])
    assert len(text) <= most
    text.encode()


def assert_hides(text: str) -> None:
    """It shows no secret."""
    assert PLANTED not in text


class Lines(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def check(self) -> None:
        """Each record since the last call must be one line."""
        messages, self._messages = self._messages, []
        for message in messages:
            assert_is_a_line(message, 2000)
            assert_hides(message)


@contextmanager
def listening() -> Iterator[Lines]:
    """Hear what is logged, and let nobody else hear it."""
    logger, lines = logging.getLogger("orchestrator"), Lines()
    level, passes_on = logger.level, logger.propagate
    write_at_once()
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
        logger.propagate = passes_on
