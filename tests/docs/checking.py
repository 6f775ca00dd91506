"""Checks a block without running it: it parses, and what it names exists."""

import ast
import builtins
import configparser
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import symtable
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

import mmdr
import typer
import yaml

from orchestrator.cli._app import _with_endpoint, app
from orchestrator.cli.reference.diagram import mermaid
from tests.docs.blocks import ROOT, Block, PageError, steps

_FILE = re.compile(r"[\w@./-]+\.(?:yaml|json|toml|service|py|md|js|svg)")
_WRITES = {"--json"}
_TELEMETRY = ROOT / "docs" / "reference" / "telemetry.md"


def check_command(command: str, written: set[str]) -> None:
    """Check a command that is not run.

    Args:
        command: As it is shown.
        written: The files that the page has shown so far.

    Raises:
        PageError: It names a file, a target, a module or an option that there is not.
    """
    _checked_by(["bash", "-n"], command)
    for words in _simple_commands(command):
        _check_files(words, written)
        if words[0] == "startup-orchestrator":
            _check_ours(words[1:])
        elif words[0] == "make":
            _check_make(words[1:])
        elif words[0] in {"python", "python3"} and words[1:2] == ["-m"]:
            if importlib.util.find_spec(words[2]) is None:
                raise PageError(f"there is no module {words[2]}")
        elif words[:2] == ["pip", "install"]:
            _check_extras(words[2:])


def _simple_commands(command: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("|&;\n"):
            words.append(word)
        elif words:
            # Variables that are set for one command only stand before it.
            yield list(dropwhile(lambda word: re.match(r"\w+=", word), words)) or [""]
            words = []


def _check_files(words: list[str], written: set[str]) -> None:
    for before, word in zip(["", *words], words, strict=False):
        if not _FILE.fullmatch(word) or word.startswith("/") or before in _WRITES | {">", ">>"}:
            continue
        if word in written:
            continue
        path = ROOT / word
        if not path.exists():
            raise PageError(f"there is no file {word}")
        if path.suffix in {".yaml", ".json"}:
            list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def _check_ours(words: list[str]) -> None:
    """Let the command line take the words apart, and do nothing with them."""
    group: Any = typer.main.get_command(app)  # of click, which typer brings in one way or another
    if not words or words[0].isupper():
        return
    if words[0] not in group.commands:
        raise PageError(f"there is no command {words[0]}")
    try:
        words = _with_endpoint(words)
        group.commands[words[0]].make_context(words[0], words[1:], help_option_names=[])
    except Exception as error:  # typer's have no public base in all its versions
        # In running text a command may be named without what it needs.
        if "Missing argument" in str(error) and len(words) == 1:
            return
        raise PageError(f"startup-orchestrator {shlex.join(words)}: {error}") from None


def _check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile.replace("\\\n", ""), re.MULTILINE)
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    for name in settings:
        if not re.search(rf"^{name} \?=", makefile, re.MULTILINE):
            raise PageError(f"the Makefile has no variable {name}")
    targets = [word for word in words if "=" not in word]
    for target in targets:
        if target not in phony.split():
            raise PageError(f"the Makefile has no target {target}")
    if targets == ["demo"]:
        _check_ours(["demo", *shlex.split(settings.get("ARGS", ""))])


def _check_extras(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        wanted = re.match(r"([\w.-]+)\[(.+)\]", word)
        if wanted is not None and wanted[1] == project["name"]:
            unknown = set(wanted[2].split(",")) - set(project["optional-dependencies"])
            if unknown:
                raise PageError(f"there are no extras {sorted(unknown)}")


def _python(block: Block) -> None:
    compile(block.source, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _yaml(block: Block) -> None:
    for document in yaml.safe_load_all(block.source):
        for value in _values_of(document, "command"):
            if isinstance(value, list) and value[:1] == ["startup-orchestrator"]:
                _check_ours(value[1:])
        if isinstance(document, dict) and "groups" in document:
            check_rules(block.source)


def _values_of(document: object, key: str) -> Iterator[object]:
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from _values_of(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from _values_of(value, key)


def _ini(block: Block) -> None:
    configparser.RawConfigParser(strict=False).read_string(block.source)


def _mermaid(block: Block) -> None:
    if block.source.startswith("stateDiagram") and block.source != mermaid():
        raise PageError("it is not the diagram of the transition table")
    mmdr.render(block.source).svg()


def _traceql(block: Block) -> None:
    """Every name in it is one that is sent."""
    page = _TELEMETRY.read_text(encoding="utf-8")
    known = set(re.findall(r"`([\w.<> ]+)`", page))
    for name in re.findall(r"\b(?:span|event|resource)\.([\w.]+)", block.source):
        if name not in known:
            raise PageError(f"{_TELEMETRY.name} knows no {name}")
    spans = [re.sub(r"<\w+>", ".+", name) for name in known]
    for name in re.findall(r"(?<!\.)\bname =~? \"(.+?)\"", block.source):
        if not any(re.fullmatch(span, name) for span in spans):
            raise PageError(f"{_TELEMETRY.name} knows no span {name}")


PARSERS: dict[str, Callable[[Block], object]] = {
    "python": _python,
    "yaml": _yaml,
    "json": lambda block: json.loads(block.source),
    "toml": lambda block: tomllib.loads(block.source),
    "ini": _ini,
    "mermaid": _mermaid,
    "traceql": _traceql,
}
"""What is parsed without any program but this one."""

SITE_ONLY = ("{eval-rst}",)
"""What only the site understands, whose build fails where it does not."""


def hidden_names(blocks: Iterable[Block]) -> list[str]:
    """Names that Python blocks use and no block that readers see defines: pasting would fail."""
    known = {*dir(builtins), "__name__"}
    hidden: list[str] = []
    for block in blocks:
        if block.language == "python" and block.runs and block.visible:
            # In a function, so that `await` may stand at the top level.
            source = f"async def page():\n{textwrap.indent(block.source, ' ')}\n pass"
            scopes = symtable.symtable(source, "page", "exec").get_children()
            # From Python 3.14 on, its annotations are another one.
            (scope,) = (one for one in scopes if one.get_name() == "page")
            known |= {one.get_name() for one in scope.get_symbols() if one.is_assigned()}
            known |= {one.get_name() for one in scope.get_symbols() if one.is_imported()}
            hidden += [name for name in _globals_of(scope) if name not in known]
    return sorted(set(hidden))


def _globals_of(scope: symtable.SymbolTable) -> Iterator[str]:
    yield from (one.get_name() for one in scope.get_symbols() if one.is_global())
    for child in scope.get_children():
        yield from _globals_of(child)


def check(block: Block, written: set[str]) -> None:
    """Check what can be checked of a block without running it."""
    if block.language in PARSERS:
        try:
            PARSERS[block.language](block)
        except (SyntaxError, ValueError, yaml.YAMLError, configparser.Error) as error:
            raise PageError(f"it does not parse: {error}") from None
    if block.language in {"console", "bash", "sh"} and not block.runs:
        for command, _ in steps(block):
            check_command(command, written)
    reason = block.marks.get("not run", "")
    for test in re.findall(r"tests/[\w/]+\.py", reason):
        if not (ROOT / test).exists():
            raise PageError(f"{test}, which should run it, does not exist")


def check_rules(source: str) -> bool:
    """Let Prometheus check rules; whether there is one that can."""
    program = shutil.which("promtool")
    if program is None:
        return False
    _checked_by([program, "check", "rules", "/dev/stdin"], source)
    return True


def check_javascript(source: str) -> bool:
    """Let Node.js parse a module; whether there is one that can."""
    program = shutil.which("node")
    if program is None:
        return False
    _checked_by([program, "--input-type=module", "--check", "-"], source)
    return True


def _checked_by(command: list[str], source: str) -> None:
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PageError(f"{Path(command[0]).name} refuses it: {done.stderr or done.stdout}")


def promql_as_rules(block: Block) -> str:
    """A file of rules with the expressions, which stand apart by empty lines."""
    expressions = [one for one in re.split(r"\n\s*\n", block.source.strip()) if one]
    rules = [{"record": f"docs:n{number}", "expr": one} for number, one in enumerate(expressions)]
    return yaml.safe_dump({"groups": [{"name": "docs", "rules": rules}]})
