"""`wait`: its options, and what becomes of them."""

from collections.abc import Mapping
from typing import Annotated

import typer

from orchestrator.cli._shell.ending import end_by_signal
from orchestrator.cli._shell.exit_codes import OK
from orchestrator.cli._shell.options import (
    Checks,
    Command,
    Json,
    OptionalChecks,
    RedisUrl,
    Timeout,
    WithAccount,
)
from orchestrator.cli._shell.output import lost, note, print_error, print_json
from orchestrator.cli._shell.process import become, named


def wait(
    *,
    redis: RedisUrl = None,
    check: Checks = None,
    optional: OptionalChecks = None,
    timeout: Timeout = None,  # the option's name says which
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    account: WithAccount = False,
    json: Json = False,
    command: Command = None,
) -> int:
    """Wait until Redis, and whatever else is named, is ready; then become CMD.

    All are asked at the same time. Without CMD the exit status says how it ended: 0 ready, 124 the
    budget is spent, 78 waiting won't help, as with a wrong password.
    """
    from orchestrator.cli._shell.account_chart import account_lines
    from orchestrator.cli._shell.asked import asked_for
    from orchestrator.cli.wait import wait, wait_progress

    named(command or ())
    asked = asked_for(redis, timeout, check, optional)
    waited = wait.wait(asked, wait_progress.make_progress(asked, quiet=quiet or json))
    if json:
        _tell_json(waited.as_json(account=account), anyway=bool(command))
    else:
        wait.tell(waited, quiet=quiet)
        for line in account_lines(waited.account) if account else ():
            print_error(line)
    if waited.signal_number:
        return end_by_signal(waited.signal_number)
    if waited.status == OK and command:
        become(command)
    return waited.status


def _tell_json(data: Mapping[str, object], *, anyway: bool) -> None:
    """Print JSON; go on where that is not possible, if there is something to go on with."""
    try:
        print_json(data)
    except OSError as error:
        if not anyway:
            raise
        note(str(lost(error)))
