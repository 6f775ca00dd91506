"""Keeping the engine of the state machine from logging in the middle of a transition."""

import logging
import threading


class _QuietEngine:
    """Keeps `transitions` from logging while it works for us.

    Its lines say less than ours do. And they are made in the middle of a transition, where a record
    factory of the application that raises would leave the machine in between.
    """

    def __init__(self) -> None:
        self._ours: set[int] = set()
        self._theirs = logging.getLogger("transitions.core")
        self._is_enabled = self._theirs.isEnabledFor
        self._theirs.isEnabledFor = self._is_enabled_for  # type: ignore[method-assign]  # the one place where it is decided before a record is made

    def _is_enabled_for(self, level: int) -> bool:
        return threading.get_ident() not in self._ours and self._is_enabled(level)

    def __enter__(self) -> None:
        self._ours.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        self._ours.discard(threading.get_ident())


quiet_engine = _QuietEngine()
