"""Processes that the drain command can ask, and whether they still drain: Linux tells it."""

import contextlib
import os
import signal
from pathlib import Path

from orchestrator._runtime.drain_signal import DRAIN_SIGNAL
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import FAILED

_PROC = Path("/proc")


def begin(pid: int) -> list[int]:
    """Ask a process and all below it to drain; return those that were asked.

    Raises:
        UserError: When there is none, or it is another user's.
    """
    asked = [one for one in below(pid) if _send(one)]
    if not asked:
        raise UserError(
            f"neither process {pid} nor one below it can be drained: it has no orchestrator,"
            " drains already ended, or drain_limit_seconds is 0",
            FAILED,
        )
    return asked


def below(pid: int) -> list[int]:
    """The process and those that it has started, and these."""
    if DRAIN_SIGNAL is None:
        raise UserError("the drain command needs Linux: send SIGTERM to the service instead")
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (parent := _field(int(entry.name), "PPid")) is not None:
            children.setdefault(int(parent), []).append(int(entry.name))
    found = [pid]
    for one in found:  # it grows meanwhile
        found += children.get(one, [])
    return found


def drains(pid: int) -> bool:
    """Whether it catches the signal: it has an orchestrator, and its drain is not over."""
    caught = _field(pid, "SigCgt")
    return bool(caught and DRAIN_SIGNAL and int(caught, 16) >> (DRAIN_SIGNAL - 1) & 1)


def _send(pid: int) -> bool:
    # By a descriptor of the process: its number may be another's by then.
    try:
        process = os.pidfd_open(pid)
    except OSError:  # it is gone
        return False
    try:
        if not drains(pid) or DRAIN_SIGNAL is None:
            return False
        signal.pidfd_send_signal(process, DRAIN_SIGNAL)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise UserError(f"process {pid} is another user's: run this as that user") from None
    finally:
        os.close(process)
    return True


def _field(pid: int, name: str) -> str | None:
    with contextlib.suppress(OSError):  # it is gone
        for line in (_PROC / str(pid) / "status").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    return None
