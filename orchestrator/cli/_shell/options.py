"""Options and arguments that several commands have."""

import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from orchestrator.cli._shell.errors import UserError

REST_IS_CMD = {"allow_interspersed_args": False}
"""Options end with the first word of CMD: the rest is CMD's own."""

TOO_LARGE = 1e9
"""Seconds, as in a policy: whatever is longer is a mistake, and too much for a clock."""

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help="Where Redis is; else ORCHESTRATOR_REDIS_URL or REDIS_URL.",
    ),
]
Checks = Annotated[
    list[str] | None,
    typer.Option(
        "--check",
        metavar="URL",
        help="What must answer: URL or NAME=URL; see ORCHESTRATOR_CHECKS; may be repeated.",
    ),
]
OptionalChecks = Annotated[
    list[str] | None,
    typer.Option(
        "--optional", metavar="URL", help="Asked and reported, but not needed; may be repeated."
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="Time budget; defaults to the policy's: 30, or 60 on Google Cloud.",
    ),
]
WithAccount = Annotated[
    bool, typer.Option("--account", help="Say where the start went, step by step.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Command = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CMD", show_default=False, help="The program and its arguments, after --."
    ),
]


def flowing(command: Callable[..., object]) -> str:
    """The text of a command with one line for each paragraph, which any terminal can wrap.

    Typer would keep the ends of the lines of the source, and break those too that are too long.
    """
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)


def require_positive(option: str, value: float) -> None:
    if not 0 < value < TOO_LARGE:
        bound = " and below 1e9" if value >= TOO_LARGE else ""
        raise UserError(f"{option} is {value:g}; it must be a number above 0{bound}")
