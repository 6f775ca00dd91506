"""How a command hears signals, and how it ends by them.

Whoever sends a signal expects the same of every command, at every moment: no traceback, a terminal
as it was before, nothing left behind, and an end *by* that signal, so that a shell's loop ends with
it. A process 1 owes it too, although the kernel gives it no default action. Three states follow
each other in a process:

1. `end_at_once`: while modules are loaded, and again when all is printed. There is nothing to tidy
   up, so the kernel, or `os._exit` in a process 1, ends the process on the spot.
2. `raise_ended`: while a command works. A signal is the exception `Ended` in the main thread, so
   that `with` and `finally` tidy up. It comes out of an event loop, too, being a
   `KeyboardInterrupt`. Libraries may make something else of that, so the signal is noted as well.
3. `obeyed`: while a command runs an event loop and has more to do than to end. Signals are noted
   when they come, and obeyed by the loop at its next turn. What is noted decides: a signal that
   comes while the loop is ending is found there, though the loop never gets to it.

`end_by_signal` is the last step of all of them. What was ignored when the process began stays
ignored: `nohup` works this way.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import FrameType

from orchestrator.cli._shell.exit_codes import SIGNALLED


def numbers(*names: str) -> frozenset[int]:
    """The signals of these names that the system has."""
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


ENDING = numbers("SIGINT", "SIGTERM", "SIGHUP")
"""What a command ends by."""

IGNORED_BY_PYTHON = numbers("SIGPIPE", "SIGXFSZ")
"""Signals that Python ignores in its own process. An ignored signal stays ignored in the program
that comes after it, which would then not end when the reader of its pipe does."""


class Ended(KeyboardInterrupt):  # named after the state
    """A signal has come that ends the command."""


def _heard(among: Collection[int]) -> list[int]:
    return [one for one in among if signal.getsignal(one) is not signal.SIG_IGN]


def end_at_once() -> None:
    """From now on, end the process on the spot."""
    first = os.getpid() == 1
    for number in _heard(ENDING):
        signal.signal(number, _exit if first else signal.SIG_DFL)


def _exit(number: int, _: FrameType | None) -> None:
    os._exit(SIGNALLED + number)


def raise_ended(came: list[int]) -> None:
    """From now on, raise `Ended` in the main thread, and append each signal that comes to `came`.

    The others are ignored from then on: they would break the tidying up off, or a line that is just
    being written to the terminal. SIGQUIT still ends what hangs.
    """

    def end(number: int, _: FrameType | None) -> None:
        for one in _heard(ENDING):
            signal.signal(one, signal.SIG_IGN)
        came.append(number)
        raise Ended

    for number in _heard(ENDING):
        signal.signal(number, end)


@contextlib.contextmanager
def obeyed(
    obey: Callable[[int], object],
    call_on_loop: Callable[[Callable[[], object]], object],
    among: Collection[int] = ENDING,
) -> Iterator[list[int]]:
    """Have signals obeyed by the running event loop, in the order in which they come.

    Args:
        obey: Called on the loop with the number of each signal.
        call_on_loop: Calls a function on the loop soon, from any thread.
        among: The signals.

    Yields:
        The signals that have come, in order; it is kept up to date by the signals themselves.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)
        call_on_loop(partial(obey, number))

    before = {number: signal.signal(number, note) for number in _heard(among)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_by_signal(number: int) -> int:
    """End as a process ends that does not handle this signal: so parents see it.

    A shell breaks off its loop then, and systemd takes SIGTERM for a clean end. The exit status is
    returned for where the signal does not end this process: the kernel keeps process 1 from it.
    """
    from orchestrator.cli._shell.output import flush  # not while there is nothing but to end

    with contextlib.suppress(OSError, ValueError, ImportError):
        import resource  # there is none on Windows

        # The program that dumped core is another one.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    flush()
    with contextlib.suppress(OSError, ValueError):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    return SIGNALLED + number
