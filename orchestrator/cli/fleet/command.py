"""`fleet`: its options, and what becomes of them."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.options import Json, require_positive
from orchestrator.cli._shell.output import note, print_json
from orchestrator.settings import PREFIX

if TYPE_CHECKING:
    from orchestrator.cli.fleet.following import Following

_LONGEST_VERSION = 128


def fleet(  # noqa: PLR0913  each is an option of the command line
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            show_default=False,
            help="The Redis of the fleet; else ORCHESTRATOR_REDIS_URL or REDIS_URL.",
        ),
    ] = None,
    *,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="SERVICE",
            help="The service; else ORCHESTRATOR_FLEET_SERVICE, or the only one there is.",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Only instances that run this.")
    ] = None,
    text: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Only rows with this text.")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    until_ready: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="End with 0 once N instances of VERSION are ready: a deploy gate."
        ),
    ] = None,
    steady: Annotated[
        float,
        typer.Option(
            "--for", metavar="SECONDS", help="For how long each must have been ready, for the gate."
        ),
    ] = 10.0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="End the gate with 124 after this time.")
    ] = 300.0,
    allow_degraded: Annotated[
        int, typer.Option(metavar="N", help="How many may fail to get ready, for the gate.")
    ] = 0,
    json: Json = False,
) -> int:
    """Show all instances of a service live, or wait until a new version is ready.

    Instances with trouble come first, the oldest trouble on top. Without a terminal there is a line
    for everything that happens.

    With --until-ready it is a gate for deploys. The exit status is 0 when N instances of VERSION
    are alive and ready, each for --for seconds without a break; 1 or 78 at once when more than
    --allow-degraded can't get there, 78 if waiting won't help, as with a wrong password; 124 when
    the time is up; and 2 when Redis can't be asked. While Redis is away it waits.
    """
    from orchestrator.cli.fleet.fleet_show import Wanted, make_show
    from orchestrator.cli.fleet.fleet_watch import watch_fleet

    if until_ready is not None:
        _check_gate(until_ready, version, steady, timeout, allow_degraded)
    following = _following(url, service)
    if until_ready is None or version is None:
        show = make_show(following.service, Wanted(version, text), as_json=json, once=once)
        return watch_fleet(following, show, once=once)
    return _run_gate(following, until_ready, version, steady, timeout, allow_degraded, as_json=json)


def _run_gate(
    following: "Following",
    wanted: int,
    version: str,
    steady: float,
    timeout: float,
    allow_degraded: int,
    *,
    as_json: bool,
) -> int:
    from orchestrator.cli.fleet.gate_run import run_gate
    from orchestrator.fleet._deploy_gate import DeployGate

    gate = DeployGate(wanted, version, for_seconds=steady, allow_degraded=allow_degraded)
    following.open()
    try:
        result = run_gate(following, gate, timeout_seconds=timeout, progress=note)
    finally:
        following.close()
    if as_json:
        print_json(result.as_json())
    else:
        for line in result.lines:
            typer.echo(line)
    return result.status


def _check_gate(
    wanted: int, version: str | None, steady: float, timeout: float, allow_degraded: int
) -> None:
    if not version:
        raise UserError("--until-ready needs --version: of which version are they?")
    if len(version.encode()) > _LONGEST_VERSION or not version.isprintable():
        raise UserError("--version is longer than 128 bytes, or not printable: no instance has it")
    if wanted < 1:
        raise UserError(f"--until-ready is {wanted}; it must be a number above 0")
    if allow_degraded < 0:
        raise UserError(f"--allow-degraded is {allow_degraded}; it must be 0 or more")
    if steady != 0:
        require_positive("--for", steady)
    require_positive("--timeout", timeout)
    if steady >= timeout:
        raise UserError(f"--for is {steady:g} and --timeout {timeout:g}; it must be shorter")


def _following(url: str | None, service: str | None) -> "Following":
    from orchestrator.cli._shell.startup import probe_for, silence_log
    from orchestrator.cli.fleet.following import Following, only_service

    silence_log()
    url = _redis_url(url)
    probe_for(url, "URL")  # it says which part of the URL is wrong
    service = service or os.environ.get(f"{PREFIX}FLEET_SERVICE") or only_service(url)
    try:
        return Following(url, service)
    except ValueError as error:
        raise UserError(str(error)) from None


def _redis_url(url: str | None) -> str:
    """The URL that was given, or that of the environment."""
    if url == "":
        raise UserError("URL is empty; without it REDIS_URL and ORCHESTRATOR_REDIS_URL count")
    found = url or os.environ.get(f"{PREFIX}REDIS_URL") or os.environ.get("REDIS_URL")
    if not found:
        raise UserError("no Redis is named: give its URL, or set ORCHESTRATOR_REDIS_URL")
    return found
