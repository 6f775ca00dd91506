"""`diagram`, `settings` and `commands`: what the program knows of itself."""

from typing import Annotated

import typer

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.options import Json
from orchestrator.cli._shell.output import print_json


def diagram(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the whole reference page.")
    ] = False,
    json: Json = False,
) -> None:
    """Print the state diagram, as Mermaid."""
    from orchestrator.cli.reference.diagram import diagram_as_json, mermaid, stages_page

    if json:
        print_json(diagram_as_json())
        return
    typer.echo(stages_page() if markdown else mermaid(), nl=False)


def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the whole reference page.")
    ] = False,
    json: Json = False,
) -> None:
    """Print what this environment sets: the policy, the platform and where Redis is."""
    from orchestrator.cli.reference.settings_page import (
        settings_as_json,
        settings_lines,
        settings_page,
    )
    from orchestrator.settings import Settings, SettingsError

    if markdown:
        typer.echo(settings_page(), nl=False)
        return
    try:
        found = Settings.from_environment()
    except SettingsError as error:
        raise UserError(str(error)) from None
    if json:
        print_json(settings_as_json(found))
    else:
        typer.echo("\n".join(settings_lines(found)))


def commands(
    context: typer.Context,
    markdown: Annotated[  # noqa: ARG001  there is no other form, as with its sisters there is
        bool, typer.Option("--markdown", help="Print the whole reference page.")
    ] = True,
) -> None:
    """Print the reference page of the commands."""
    from orchestrator.cli.reference.commands_page import commands_page

    typer.echo(commands_page(context), nl=False)
