"""`fleet`: all instances of a service, live, until interrupted."""

import contextlib

from orchestrator.cli._shell.errors import Unreachable
from orchestrator.cli._shell.exit_codes import OK
from orchestrator.cli._shell.output import ReaderGone
from orchestrator.cli.fleet.fleet_show import FleetShow
from orchestrator.cli.fleet.following import Following
from orchestrator.fleet._news import Contact

_REFRESH_SECONDS = 1.0
_FIRST_SECONDS = 10.0
"""How long `--once` waits for Redis."""


def watch_fleet(following: Following, show: FleetShow, *, once: bool) -> int:
    """Show what happens until interrupted; with `once`, show how things stand, and end.

    Returns:
        The exit status.

    Raises:
        Unreachable: When Redis can't be asked, and waiting won't help; or with `once` not in time.
        UserError: When nobody reads on.
    """
    following.open()
    try:
        with contextlib.closing(show), contextlib.closing(following):
            show.open()
            return _watch(following, show, once=once)
    except (BrokenPipeError, SystemExit):  # rich makes an exit of that
        raise ReaderGone from None


def _watch(following: Following, show: FleetShow, *, once: bool) -> int:
    began_at = following.now()
    first = True
    while True:
        news = following.news(_REFRESH_SECONDS)
        gone = following.failure.reason if following.failure else ""
        if following.was_reached and first:
            show.first(following.instances)
            first = False
            if once:
                return OK
        if not following.was_reached:
            late = once and following.now() - began_at >= _FIRST_SECONDS
            if following.is_hopeless or late:
                raise Unreachable(gone or f"Redis did not answer within {_FIRST_SECONDS:g} s")
        for one in news:
            if isinstance(one, Contact) and not one.reached:
                show.gone(one.reason)
            show.news(one)
        if gone and following.reached is False:
            show.gone(gone)
        show.now(following.instances, gone)
