"""Ending the process when the application behind the gate cannot be loaded, as its server would.

Without a gate a server imports the application before it opens its port, and ends with a status of
its own when that fails; supervisors act on it. Behind the gate the port is open already, and no
message of the ASGI interface ends a server then. So the status is raised from the event loop, which
every server lets out.
"""

import asyncio
import contextlib
import sys
from enum import Enum
from types import TracebackType
from typing import NoReturn

from orchestrator._hardening.log_thread import logger
from orchestrator.asgi._import_string import ImportString, LoadError


class Failed(Enum):
    """What could not be done."""

    FIND = "the module was not found"
    TAKE = "it is not an application, or has another name"
    IMPORT = "it raised while it was imported"
    START = "its lifespan failed"


# As seen: tests compare them with the servers' own.
_UVICORN = {Failed.FIND: 3, Failed.TAKE: 3, Failed.START: 3}  # its STARTUP_FAILURE
# 3 and 4 are WORKER_BOOT_ERROR and APP_LOAD_ERROR of its arbiter, at which it starts no more
# workers and ends.
_GUNICORN = {Failed.FIND: 3, Failed.TAKE: 4, Failed.IMPORT: 3, Failed.START: 3}

_OF_A_THREAD = (
    "no current event loop in thread",
    "no running event loop",
    "signal only works in main thread",
    "set_wakeup_fd only works in main thread",
)
"""What Python says where code needs the main thread, or a running event loop."""


def status_of(failed: Failed, error: BaseException | None = None) -> int | str | None:
    """The exit status with which this process's server ends when that fails."""
    if isinstance(error, SystemExit):
        return error.code
    if "gunicorn.workers.base" in sys.modules:  # servers load their own modules only
        return _GUNICORN[failed]
    return _UVICORN.get(failed, 1) if "uvicorn.server" in sys.modules else 1


def end_process(status: int | str | None) -> None:
    """End it from the event loop; on trio from the task that calls this, of the server's."""

    def end() -> NoReturn:
        raise SystemExit(status)

    loop = None
    with contextlib.suppress(RuntimeError):
        loop = asyncio.get_running_loop()
    if loop is None:
        end()
    loop.call_soon(end)


def tell_failed_import(where: ImportString, error: BaseException) -> int | str | None:
    """Say why the import failed, as it would be said without us; return the exit status."""
    failed = Failed.IMPORT
    if isinstance(error, LoadError):
        failed = Failed.FIND if error.missing_module else Failed.TAKE
        logger.error("%s", error)
    elif not isinstance(error, SystemExit):
        # As Python shows it when it is not caught, and the server does not.
        with contextlib.suppress(Exception):
            error.__traceback__ = _from_module(error.__traceback__)
            sys.excepthook(type(error), error, error.__traceback__)
        if any(text in str(error) for text in _OF_A_THREAD):
            logger.error(
                "%s was imported in a thread, and needs the main thread or a running event loop:"
                " set ORCHESTRATOR_IMPORT=loop, or deferred(..., import_on='loop')",
                where.module,
            )
    return status_of(failed, error)


def _from_module(traceback: TracebackType | None) -> TracebackType | None:
    """Without the frames that led to the import, which are ours and Python's."""
    found = traceback
    while found is not None:
        module = found.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in ("orchestrator", "importlib", "_frozen_importlib"):
            return found
        found = found.tb_next
    return traceback
