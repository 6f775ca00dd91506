"""What a forked process forgets: in it no task, no thread and no event loop of its parent runs."""

import os
import weakref
from typing import Protocol


class _Forked(Protocol):
    def forked(self) -> None:
        """This process is a new one."""


_known: "weakref.WeakSet[_Forked]" = weakref.WeakSet()


def forget_in_child(one: _Forked) -> None:
    """Have `forked` called in processes that are forked from now on."""
    _known.add(one)


def _forget() -> None:
    for one in list(_known):
        one.forked()
    _known.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
