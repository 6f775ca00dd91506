"""The command `check-policy`: its options, and what it prints."""

import json as json_text
import math
import os
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.style import console_on
from orchestrator.cli.policy.numbers import Hosting, recommended
from orchestrator.cli.policy.rules import PolicyCheck, Severity, check
from orchestrator.settings import PREFIX, Settings, SettingsError, detect_platform
from states import Policy

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}
_FIELDS = {
    "boot": "boot_seconds",
    "initial_delay": "initial_delay_seconds",
    "probe_period": "period_seconds",
    "probe_timeout": "timeout_seconds",
    "failure_threshold": "failure_threshold",
    "liveness_period": "liveness_period_seconds",
    "liveness_threshold": "liveness_threshold",
    "pre_stop": "pre_stop_seconds",
    "drain": "drain_seconds",
    "stop_limit": "stop_limit_seconds",
    "start_limit": "start_limit_seconds",
    "restart_delay": "restart_seconds",
    "start_limit_interval": "start_limit_interval_seconds",
    "start_limit_burst": "start_limit_burst",
    "hold": "hold_seconds",
}
_ABOVE_ZERO = (
    "probe_period",
    "probe_timeout",
    "liveness_period",
    "failure_threshold",
    "liveness_threshold",
)

_WHOLE = ("initial_delay", "probe_period", "probe_timeout", "liveness_period")
"""What platforms take as whole seconds only."""

_WHOLE_ON_KUBERNETES = ("pre_stop", "stop_limit")
_TOO_LARGE = 1e9
"""Seconds, as in a policy: whatever is longer is a mistake."""


def check_policy(  # noqa: PLR0913  each is an option of the command line
    *,
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where it runs, systemd included; else that of the environment.",
            autocompletion=lambda: list(Hosting),
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="The budget; else the policy's.")
    ] = None,
    grace: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="The grace; else the policy's.")
    ] = None,
    boot: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="From the start of the process until the orchestrator is entered.",
        ),
    ] = None,
    initial_delay: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Before the first start-up probe: initialDelaySeconds."
        ),
    ] = None,
    probe_period: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Between start-up probes: periodSeconds."),
    ] = None,
    probe_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Of one start-up probe: timeoutSeconds.")
    ] = None,
    failure_threshold: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many failed start-up probes end the instance."),
    ] = None,
    liveness_period: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Between liveness probes.")
    ] = None,
    liveness_threshold: Annotated[
        int | None, typer.Option(metavar="N", help="How many failed liveness probes restart it.")
    ] = None,
    pre_stop: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long the stop hook serves on before SIGTERM."),
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From SIGTERM to the end of the service."),
    ] = None,
    stop_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="terminationGracePeriodSeconds, or TimeoutStopSec."),
    ] = None,
    start_limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="TimeoutStartSec.")
    ] = None,
    restart_delay: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="RestartSec.")
    ] = None,
    start_limit_interval: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="StartLimitIntervalSec; systemd's own default is 10."),
    ] = None,
    start_limit_burst: Annotated[
        int | None, typer.Option(metavar="N", help="StartLimitBurst.")
    ] = None,
    hold: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="hold_seconds of the gate.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say when budget, grace, drain and probe numbers cannot work together.

    What is not given is as recommended for the policy and for what is given. The exit status is 1
    when something cannot work; a warning is no failure.
    """
    place = _place(platform)
    policy = _policy(place, _usable({"budget": budget, "grace": grace}, place))
    seconds = {
        "boot": boot,
        "initial_delay": initial_delay,
        "probe_period": probe_period,
        "probe_timeout": probe_timeout,
        "liveness_period": liveness_period,
        "pre_stop": pre_stop,
        "drain": drain,
        "stop_limit": stop_limit,
        "start_limit": start_limit,
        "restart_delay": restart_delay,
        "start_limit_interval": start_limit_interval,
        "hold": hold,
    }
    counts = {
        "failure_threshold": failure_threshold,
        "liveness_threshold": liveness_threshold,
        "start_limit_burst": start_limit_burst,
    }
    given = _usable(seconds, place) | _usable(counts, place)
    numbers = recommended(policy, place, {_FIELDS[name]: one for name, one in given.items()})
    checked = check(policy, numbers, place)
    if json:
        typer.echo(json_text.dumps(checked.as_json()))
    else:
        _show(checked)
    return checked.exit_status


def _place(name: str | None) -> Hosting:
    try:
        return Hosting(detect_platform().value if name is None else name.lower().replace("-", "_"))
    except ValueError as error:
        text = str(error) if isinstance(error, SettingsError) else None
        raise UserError(
            text or f"--platform is {name}; it must be one of {', '.join(Hosting)}"
        ) from None


def _policy(place: Hosting, changes: Mapping[str, float]) -> Policy:
    """The policy that a service there would have with this environment, and the changes."""
    environ = {**os.environ, f"{PREFIX}PLATFORM": place.platform.value}
    variables = {name: f"{PREFIX}{name.upper()}_SECONDS" for name in changes}
    environ |= {variables[name]: str(value) for name, value in changes.items()}
    try:
        return Settings.from_environment(environ).policy
    except SettingsError as error:
        text = str(error)
        for name, variable in variables.items():
            text = text.replace(variable, f"--{name}")
        raise UserError(text) from None


def _usable(values: Mapping[str, float | None], place: Hosting) -> dict[str, float]:
    usable: dict[str, float] = {}
    whole_names = _WHOLE + (_WHOLE_ON_KUBERNETES if place is Hosting.KUBERNETES else ())
    for name, value in values.items():
        if value is None:
            continue
        option, above, whole = (
            "--" + name.replace("_", "-"),
            name in _ABOVE_ZERO,
            name in whole_names,
        )
        good = math.isfinite(value) and 0 <= value < _TOO_LARGE and not (above and value == 0)
        if not good or (whole and value != int(value)):
            kind = "whole number" if whole else "number"
            allowed = "above 0" if above else "of 0 or more"
            bound = " and below 1e9" if value >= _TOO_LARGE else ""
            raise UserError(f"{option} is {value:g}; it must be a {kind} {allowed}{bound}")
        usable[name] = value
    return usable


def _show(checked: PolicyCheck) -> None:
    from rich.text import Text

    console = console_on(sys.stdout)
    console.print(checked.summary(), soft_wrap=True)
    for one in checked.findings:
        line = Text(f"{one.severity}: ", _STYLES[one.severity]) + Text(f"{one.text} [{one.rule}]")
        console.print(line, soft_wrap=True)
    if not checked.findings:
        console.print(Text("ok", "green") + ": these numbers work together", soft_wrap=True)
