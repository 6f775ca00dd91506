"""`check`, `explain` and `watch`: their options, and what becomes of them."""

from collections.abc import Mapping
from typing import Annotated

import typer

from orchestrator.cli._shell.errors import Unreachable, UserError
from orchestrator.cli._shell.exit_codes import OK
from orchestrator.cli._shell.options import Json, WithAccount, require_positive
from orchestrator.cli._shell.output import print_json

_Url = Annotated[
    str,
    typer.Argument(
        metavar="URL", show_default=False, help="Such as http://127.0.0.1:8080 or 127.0.0.1:8080."
    ),
]
_AnswerTimeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="How long the answer may take.")
]


def _stages() -> list[str]:
    """What a shell completes."""
    from states import Stage

    return list(Stage)


def check(
    url: _Url,
    timeout: _AnswerTimeout = 2.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    json: Json = False,
) -> int:
    """Ask a health endpoint once, for health checks of containers.

    URL without a path means /readyz. The exit status is 0 when the service passes or warns, 1 when
    it fails, 2 when there is no answer.
    """
    from orchestrator.cli.query import health_check

    require_positive("--timeout", timeout)
    try:
        checked = health_check.check(url, timeout)
    except Unreachable as error:
        return _nobody(error, quiet=quiet, json=json)
    if json:
        print_json(checked.as_json())
    elif not quiet:
        typer.echo(str(checked))
    return checked.exit_status


def _nobody(error: Unreachable, *, quiet: bool, json: bool) -> int:
    """No answer: reported in the requested form, with its exit status."""
    if json:
        print_json({"exit_status": error.status, "error": str(error)})
    elif not quiet:
        raise error
    return error.status


def explain(
    url: _Url, timeout: _AnswerTimeout = 8.0, account: WithAccount = False, json: Json = False
) -> int:
    """Say what a running service waits for, and why.

    URL is that of its status page, or of a health endpoint beside it; without a path, /startup. If
    the service has no page, the health endpoint is read instead. The exit status is 2 when there is
    no answer.
    """
    from orchestrator.cli.query import explain, waits_for
    from orchestrator.cli.query.client import HttpAddress

    require_positive("--timeout", timeout)
    base = explain.base_address(url)
    try:
        state = explain.fetch_state(base, timeout)
    except Unreachable as error:
        no_page = isinstance(error, explain.NoPage) and not json
        asked = HttpAddress.of(url, explain.DEFAULT_PATH).path
        first = asked if explain.is_health(asked) else ""
        if no_page and (lines := waits_for.from_health(base, timeout, first)):
            typer.echo("\n".join([*lines, f"no more is known: {error}"]))
            return OK
        return _nobody(error, quiet=False, json=json)
    if account:
        return _explain_account(state, json=json)
    if json:
        print_json(state)
    else:
        typer.echo("\n".join(explain.lines(state)))
    return OK


def _explain_account(state: Mapping[str, object], *, json: bool) -> int:
    from orchestrator.cli._shell.account_chart import account_from, account_lines

    account = account_from(state.get("account"))
    if account is None:
        return _nobody(
            Unreachable("this service tells no account of its start"), quiet=False, json=json
        )
    if json:
        print_json(account.as_json())
    else:
        typer.echo("\n".join(account_lines(account)))
    return OK


def watch(
    url: _Url,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="End with 0 once this stage is reached.",
            autocompletion=_stages,
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End with 124 after this time.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> int:
    """Show the stages of a running service live, until interrupted.

    URL is that of its status page; without a path, /startup. A service that goes away is waited
    for; the exit status is 2 when there is one, but without a status page.
    """
    from orchestrator.cli.query import explain, watch, watch_view
    from states import Stage

    if until is not None and until not in list(Stage):
        raise UserError(f"--until is {until}; it must be one of {', '.join(Stage)}")
    if timeout is not None:
        require_positive("--timeout", timeout)
    base = explain.base_address(url)
    view = watch_view.make_view(as_json=json)
    return watch.watch(base, view, until=until, timeout_seconds=timeout)
