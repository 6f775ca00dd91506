"""The commands, those that only print included, and what becomes of an error."""

import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator import __version__
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import SIGNALLED, USAGE
from orchestrator.cli._shell.options import REST_IS_CMD, flowing
from orchestrator.cli._shell.outcome import status_of
from orchestrator.cli._shell.output import ReaderGone, print_json
from orchestrator.cli._shell.program import PROGRAM
from orchestrator.cli.demo.command import OTLP_ENDPOINT, demo
from orchestrator.cli.drain.command import drain
from orchestrator.cli.fleet.command import fleet
from orchestrator.cli.policy.command import check_policy
from orchestrator.cli.query.command import check, explain, watch
from orchestrator.cli.reference.command import commands, diagram, settings
from orchestrator.cli.run.command import run as run_command
from orchestrator.cli.wait.command import wait


def _plain_flags(params: Any) -> Any:  # of Typer's own kind, which has moved before
    """Options of which newer versions of Typer would say that they take a `<bool>`."""
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class _Commands(TyperGroup):
    """Turns what is no exception of ours into one, where Typer would make an exit status of it."""

    # Of Typer's own kinds, which have moved before.
    def get_params(self, ctx: Any) -> Any:
        return _plain_flags(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            params = command.get_params
            command.get_params = lambda ctx: _plain_flags(params(ctx))  # type: ignore[method-assign]  # Typer makes it
        return command

    def invoke(self, ctx: Any) -> Any:  # of Typer's own kind, which has moved before
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None


app = typer.Typer(
    name=PROGRAM,
    cls=_Commands,
    help="Event-driven start-up for services with Redis and WebSockets.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes as long to load for a page of help as all else together
)


def _add(
    command: Callable[..., object], name: str | None = None, settings: dict[str, bool] | None = None
) -> None:
    text = flowing(command)
    summary = text.partition("\n")[0]  # else it would be cut off where the line ends
    added = app.command(name, help=text, short_help=summary, context_settings=settings)
    added(command)


_add(wait, settings=REST_IS_CMD)
_add(run_command, "run", REST_IS_CMD)
for command in (check, explain, watch, fleet, drain, check_policy, demo, diagram, settings):
    _add(command)
app.command(hidden=True)(commands)


def run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit status. Errors are one line on standard error."""
    return status_of(partial(_parsed, arguments))


def _parsed(arguments: Sequence[str]) -> int:
    try:
        status = app(_with_endpoint(arguments), prog_name=PROGRAM, standalone_mode=False)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:  # made of a `KeyboardInterrupt`
        return SIGNALLED + signal.SIGINT
    except Exception as error:
        # Typer's usage errors have no public base class in all its versions; this is their mark.
        in_words = getattr(error, "format_message", None)
        if in_words is None:
            raise
        text = f"{in_words()} ({_help_for(error, arguments)} says more)"
        raise UserError(text, USAGE) from None
    return status if isinstance(status, int) else 0


def _help_for(error: Exception, arguments: Sequence[str]) -> str:
    """The command line that shows the help of the command that was used in a wrong way."""
    context = getattr(error, "ctx", None)
    if context is None:  # some errors of the parser do not know where they come from
        named = [name for name in arguments[:1] if name in _names()]
        return " ".join([PROGRAM, *named, "--help"])
    return f"{context.command_path} --help"


def _names() -> set[str]:
    """The names of the commands."""
    return {
        str(one.name or getattr(one.callback, "__name__", "")) for one in app.registered_commands
    }


def _with_endpoint(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the default endpoint after an `--otlp` that has none.

    Not all versions of Typer know options whose value can be left out.
    """
    if list(arguments[:1]) != ["demo"]:  # what `wait` and `run` pass on to CMD is CMD's own
        return list(arguments)
    found: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        found.append(argument)
        if argument == "--otlp" and following.startswith("-"):
            found.append(OTLP_ENDPOINT)
    return found


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --version: print JSON.")] = False,
) -> None:
    if version:
        if json:
            print_json({"name": PROGRAM, "version": __version__})
        else:
            typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit
    if json:
        raise UserError("--json goes with --version here; for a command, put it after its name")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
