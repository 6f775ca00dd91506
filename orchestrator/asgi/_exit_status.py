"""Ending the process when the application behind the gate cannot be loaded, as its server would.

Without a gate a server imports the application before it opens its port, and ends with a status of
its own when that fails; supervisors act on it. Behind the gate the port is open already, and no
message of the ASGI interface ends a server then. So the status is raised from the event loop, which
every server lets out.
"""

import asyncio
import sys
from enum import Enum
from typing import NoReturn


class Failed(Enum):
    """What could not be done."""

    FIND = "the module was not found"
    TAKE = "it is no application, or has another name"
    IMPORT = "it raised while it was imported"
    START = "its lifespan failed"


# As seen: tests compare them with the servers' own.
_UVICORN = {Failed.FIND: 3, Failed.TAKE: 3, Failed.START: 3}  # its STARTUP_FAILURE
# 3 and 4 are WORKER_BOOT_ERROR and APP_LOAD_ERROR of its arbiter, at which it starts no more
# workers and ends.
_GUNICORN = {Failed.FIND: 3, Failed.TAKE: 4, Failed.IMPORT: 3, Failed.START: 3}


def status_of(failed: Failed, error: BaseException | None = None) -> int | str | None:
    """The exit status with which this process's server ends when that fails."""
    if isinstance(error, SystemExit):
        return error.code
    if "gunicorn.workers.base" in sys.modules:  # servers load their own modules only
        return _GUNICORN[failed]
    return _UVICORN.get(failed, 1) if "uvicorn.server" in sys.modules else 1


def end_process(status: int | str | None) -> bool:
    """End it from the event loop, soon; False on trio, whose tasks have to raise it themselves."""

    def end() -> NoReturn:
        raise SystemExit(status)

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    loop.call_soon(end)
    return True
