"""What becomes of the options of `wait`, whoever has read them: it needs no Typer."""

from collections.abc import Mapping, Sequence

from orchestrator.cli._shell.asked import asked_for
from orchestrator.cli._shell.ending import end_by_signal
from orchestrator.cli._shell.exit_codes import OK
from orchestrator.cli._shell.output import lost, note, print_error, print_json
from orchestrator.cli._shell.process import become, named
from orchestrator.cli.wait import wait, wait_progress


def wait_as_asked(
    *,
    redis: str | None = None,
    check: Sequence[str] | None = None,
    optional: Sequence[str] | None = None,
    timeout: float | None = None,
    quiet: bool = False,
    account: bool = False,
    json: bool = False,
    command: Sequence[str] | None = None,
) -> int:
    """Wait, say how it ended, and become CMD, if there is one; return the exit status."""
    named(command or ())
    asked = asked_for(redis, timeout, check, optional)
    waited = wait.wait(asked, wait_progress.make_progress(asked, quiet=quiet or json))
    if json:
        _tell_json(waited.as_json(account=account), anyway=bool(command))
    else:
        wait.report(waited, quiet=quiet)
        if account:
            from orchestrator.cli._shell.account_chart import account_lines

            for line in account_lines(waited.account):
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
