"""The command `check-policy`: its options, and what it prints.

The options are the policy's budget and grace, and one for each field of `Numbers`.
"""

import inspect
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

import typer

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.options import TOO_LARGE
from orchestrator.cli._shell.output import print_json
from orchestrator.cli._shell.style import console_on
from orchestrator.cli.policy.numbers import (
    COUNT,
    Bound,
    Hosting,
    Numbers,
    Option,
    option_of,
    recommended,
)
from orchestrator.cli.policy.result import PolicyCheck, Severity
from orchestrator.cli.policy.rules import check
from orchestrator.settings import PREFIX, Settings, SettingsError, detect_platform
from states import Policy

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}

_OF_POLICY = (
    Option("budget", "Start-up budget; defaults to the policy's."),
    Option("grace", "Grace; defaults to the policy's."),
)
_OF_NUMBERS = {option_of(one): one.name for one in fields(Numbers)}


def check_policy(
    *,
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where it runs, such as systemd; detected if not given.",
            autocompletion=lambda: list(Hosting),
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    **given: float | None,
) -> int:
    """Say when budget, grace, drain and probe numbers cannot work together.

    Options that you leave out take the values recommended for the policy and the others. The exit
    status is 1 when something cannot work; a warning is no failure.
    """
    place = _place(platform)
    values = {name.replace("_", "-"): one for name, one in given.items() if one is not None}
    for option in (*_OF_POLICY, *_OF_NUMBERS):
        if option.name in values:
            _require_usable(option, values[option.name], place)
    changes = {one.name: values[one.name] for one in _OF_POLICY if one.name in values}
    settled = {field: values[one.name] for one, field in _OF_NUMBERS.items() if one.name in values}
    policy = _policy(place, changes)
    checked = check(policy, recommended(policy, place, settled), place)
    if json:
        print_json(checked.as_json())
    else:
        _show(checked)
    return checked.exit_status


def _parameter(option: Option) -> inspect.Parameter:
    shown = typer.Option(f"--{option.name}", metavar=option.unit, help=option.help)
    number = int if option.unit == COUNT else float
    kind: Any = Annotated[number | None, shown]
    name = option.name.replace("-", "_")
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _with_options() -> inspect.Signature:
    """The signature that Typer reads: an option in the place of each of `given`."""
    shown = inspect.signature(check_policy)
    platform, json, _ = shown.parameters.values()
    made = map(_parameter, (*_OF_POLICY, *_OF_NUMBERS))
    return shown.replace(parameters=[platform, *made, json])


check_policy.__signature__ = _with_options()  # type: ignore[attr-defined]  # what `inspect` looks for


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


def _require_usable(option: Option, value: float, place: Hosting) -> None:
    bound = option.bound
    above = bound in (Bound.ABOVE_ZERO, Bound.WHOLE_ABOVE_ZERO)
    whole = bound in (Bound.WHOLE, Bound.WHOLE_ABOVE_ZERO) or (
        bound is Bound.WHOLE_ON_KUBERNETES and place is Hosting.KUBERNETES
    )
    good = math.isfinite(value) and 0 <= value < TOO_LARGE and not (above and value == 0)
    if not good or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        allowed = "above 0" if above else "of 0 or more"
        most = " and below 1e9" if value >= TOO_LARGE else ""
        raise UserError(f"--{option.name} is {value:g}; it must be a {kind} {allowed}{most}")


def _show(checked: PolicyCheck) -> None:
    from rich.text import Text

    console = console_on(sys.stdout)
    console.print(checked.summary(), soft_wrap=True)
    for one in checked.findings:
        line = Text(f"{one.severity}: ", _STYLES[one.severity]) + Text(f"{one.text} [{one.rule}]")
        console.print(line, soft_wrap=True)
    if not checked.findings:
        console.print(Text("ok", "green") + ": these numbers work together", soft_wrap=True)
