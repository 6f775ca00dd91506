"""Each check notices when a page breaks it: one that no fault can break would prove nothing."""

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, PageError, pages, read
from tests.docs.checking import check_command, check_javascript, check_rules, promql_as_rules
from tests.docs.running import run
from tests.docs.test_blocks import check_page


def page_with(text: str, directory: Path) -> Path:
    """A page outside of the repository."""
    path = directory / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def fenced(language: str, source: str, *marks: str) -> str:
    return "".join(f"<!-- {mark} -->\n" for mark in marks) + f"```{language}\n{source}\n```\n"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (fenced("", "{ }"), "no check knows the language ''"),
        (fenced("cobol", "STOP RUN."), "no check knows the language 'cobol'"),
        ("Shown:\n\n    $ an indented block\n", "no check knows the language ''"),
        (fenced("text", "hello"), "say so above it"),
        (fenced("text", "hello", "not run:  "), "needs a value"),
        (fenced("python", "x = (", "not run: why"), "does not parse"),
        (fenced("yaml", "a: [", "file: x.yaml"), "does not parse"),
        (fenced("json", "{"), "does not parse"),
        (fenced("toml", "a ="), "does not parse"),
        (fenced("ini", "a"), "does not parse"),
        (fenced("yaml", "command: [startup-orchestrator, go]"), "no command go"),
        (fenced("mermaid", "this is none"), "does not parse"),
        (fenced("mermaid", "stateDiagram-v2\n    [*] --> ready"), "transition table"),
        (fenced("traceql", "{ span.orchestrator.nothing = 1 }"), "knows no orchestrator.nothing"),
        (fenced("traceql", '{ name = "nothing" }'), "knows no span nothing"),
        (fenced("python", "pass", "not run: tests/docs/test_nothing.py runs it"), "does not exist"),
        (fenced("python", "def f():\n    return [client for _ in range(url)]"), "client, url"),
        ("<!-- invisible-code-block: python\na = 1\n-->\n" + fenced("python", "a"), "lacks a"),
        ("<!-- not run: why -->\n\nText.\n", "above no block"),
        ("Run `make nothing`.", "no target nothing"),
    ],
)
def test_a_page_that_cannot_be_checked_is_refused(text: str, because: str, tmp_path: Path) -> None:
    with pytest.raises(PageError, match=because):
        check_page(read(page_with(text, tmp_path)))


@pytest.mark.parametrize(
    ("command", "because"),
    [
        ("kubectl apply -f docs/deploy/nothing.yaml", "no file docs/deploy/nothing.yaml"),
        ("true && otelcol --config nothing.yaml", "no file nothing.yaml"),
        ("startup-orchestrator fly", "no command fly"),
        ("startup-orchestrator wait --tiemout 3", "tiemout"),
        ("startup-orchestrator wait --timeout soon", "soon"),
        ("A=1 startup-orchestrator run --prot 1 -- CMD", "prot"),
        ("make nothing", "no target nothing"),
        ("make demo SPEED=2", "no variable SPEED"),
        ("make demo ARGS='--compair'", "compair"),
        ("python -m tests.nothing", "no module tests.nothing"),
        ("pip install 'startup-orchestrator[nothing]'", "no extras"),
        ("if true", "bash refuses it"),
    ],
)
def test_a_command_that_cannot_work_is_refused(command: str, because: str) -> None:
    with pytest.raises(PageError, match=because):
        check_command(command, set())


FAILING = (
    (fenced("python", "raise ZeroDivisionError"), "ZeroDivisionError"),
    (fenced("python", "import asyncio\nawait asyncio.sleep(0, 1)\nnothing"), "nothing"),
    (fenced("console", "$ false"), "ended with 1"),
    (fenced("console", "$ true", "status: 2"), "ended with 0"),
    (fenced("console", "$ echo one two\none ... three"), "does not print what is shown"),
    (fenced("bash", "false\ntrue"), "ended with 1"),
    (fenced("console", "$ exit 0", "serves: 8000"), "ended before it listened"),
    (fenced("python", "print(1)") + fenced("text", "2", "output"), "does not print what is shown"),
    (fenced("text", "x", "file: README.md") + fenced("bash", "true"), "in the place of a file"),
)


@pytest.mark.parametrize(("text", "because"), FAILING)
def test_a_page_that_does_not_work_fails(text: str, because: str, tmp_path: Path) -> None:
    page = read(page_with(text, tmp_path))
    directory = tmp_path / "run"
    directory.mkdir()
    with pytest.raises(PageError, match=r"page\.md:\d+: [\s\S]*" + because):
        run(page, directory)


WORKING = """
<!-- file: service.py -->
```python
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler

HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
```

<!-- serves: 8000 -->
```console
$ export WHO=reader
$ python service.py 8000
```

```console
$ echo "$WHO asks 8000"
reader asks 8000
```

```python
import asyncio

import redis.asyncio

async with redis.asyncio.from_url("redis://localhost:6379/0") as client:
    assert await client.ping()
reader, writer = await asyncio.open_connection("127.0.0.1", 8000)
writer.close()
print("connected to", 8000)
```

<!-- output -->
```text
connected ... 8000
```
"""


def test_a_page_that_works_passes(tmp_path: Path) -> None:
    page = read(page_with(WORKING, tmp_path))
    check_page(page)
    directory = tmp_path / "run"
    directory.mkdir()
    run(page, directory)


def test_a_real_page_with_a_typing_error_fails(tmp_path: Path) -> None:
    text = (ROOT / "docs/how-to/redis.md").read_text(encoding="utf-8")
    copy = page_with(text.replace("RedisProbe.from_client(", "RedisProbe.of_client("), tmp_path)
    directory = tmp_path / "run"
    directory.mkdir()
    with pytest.raises(PageError, match="of_client"):
        run(read(copy), directory)


def test_other_programs_refuse_what_they_cannot_parse() -> None:
    if shutil.which("node"):
        with pytest.raises(PageError):
            check_javascript("const = 1")
    if shutil.which("promtool"):
        with pytest.raises(PageError):
            check_rules(promql_as_rules(Block("promql", "sum(rate(", 1)))


def test_every_page_is_read() -> None:
    found = {str(path.relative_to(ROOT)) for path in pages()}
    assert {"README.md", "CONTRIBUTING.md", "docs/README.md", "docs/how-to/wait.md"} <= found
    assert sum(len(read(path).blocks) for path in pages()) > 60
