"""`wait`: its options."""

from typing import Annotated

import typer

from orchestrator.cli._shell.options import (
    Checks,
    Command,
    Json,
    OptionalChecks,
    RedisUrl,
    Timeout,
    WithAccount,
)


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
    from orchestrator.cli.wait.wait_as_asked import wait_as_asked

    return wait_as_asked(
        redis=redis,
        check=check,
        optional=optional,
        timeout=timeout,
        quiet=quiet,
        account=account,
        json=json,
        command=command,
    )
