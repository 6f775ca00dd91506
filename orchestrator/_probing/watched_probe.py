"""A probe whose changes show on a socket, so that no task has to wait for them in `changed`."""

import asyncio
import socket
from abc import abstractmethod
from collections.abc import Callable

from orchestrator._ports import Probe

EndWatching = Callable[[], None]
"""Ends the watching. Calling it twice does no harm."""


class WatchedProbe(Probe):
    """A probe that can be watched without a task in `changed`.

    A task that waits in `changed`, and is cancelled before each attempt, costs a third of a steady
    attempt.
    """

    @abstractmethod
    def watch(self, changed: Callable[[], object]) -> EndWatching | None:
        """Have a function called once, when `changed` would return; on asyncio.

        Returns:
            What ends it; `None` where only `changed` sees what there is to see.
        """


def on_readable(handle: socket.socket, call: Callable[[], object]) -> EndWatching | None:
    """Have a function called once the socket is readable, and the socket closed at the end.

    Returns:
        What ends it; `None` where the event loop cannot do that.
    """
    loop = asyncio.get_running_loop()
    descriptor = handle.fileno()

    def stop() -> None:
        if handle.fileno() >= 0:
            loop.remove_reader(descriptor)
            handle.close()

    def readable() -> None:
        stop()
        call()

    try:
        loop.add_reader(descriptor, readable)
    except NotImplementedError:  # as that of Windows
        handle.close()
        return None
    return stop
