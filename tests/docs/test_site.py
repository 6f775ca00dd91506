"""The documentation as a site: built strictly, complete, and seen without any network."""

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from sphinx.pycode import ModuleAnalyzer

from orchestrator import StageChanged

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
API = Path("docs/reference/api")

MODULES = {
    "orchestrator": "orchestrator",
    "orchestrator.aiohttp": "aiohttp",
    "orchestrator.asgi": "asgi",
    "orchestrator.auto": "auto",
    "orchestrator.checks": "checks",
    "orchestrator.fleet": "fleet",
    "orchestrator.health": "health",
    "orchestrator.otel": "otel",
    "orchestrator.pod": "pod",
    "orchestrator.redis": "redis",
    "orchestrator.settings": "settings",
    "orchestrator.testing": "testing",
    "orchestrator.web": "web",
    "orchestrator.websockets": "websockets",
    "orchestrator.wsgi": "wsgi",
    "states": "states",
}
"""The public modules, and the page of each in `docs/reference/api`."""


def build(source: Path, target: Path, builder: str = "html") -> subprocess.CompletedProcess[str]:
    """What `make docs` does; the builder `dummy` only finds the faults, and writes nothing."""
    strict = ["--builder", builder]
    strict += ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"]
    command = [sys.executable, "-m", "sphinx", *strict, "--conf-dir", str(ROOT / "docs")]
    return subprocess.run(
        [*command, str(source), str(target)], capture_output=True, text=True, check=False
    )


class Fetched(HTMLParser):
    """What a browser loads by itself to show a page; links that a reader may follow are not."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.urls += [given[name] for name in ("src", "srcset", "poster", "data") if name in given]
        if tag == "link":
            self.urls.append(given.get("href", ""))


def fetched_from_elsewhere(page: str) -> list[str]:
    parser = Fetched()
    parser.feed(page)
    return [url for url in parser.urls if re.match(r"(?:\w+:)?//", url)]


def fetched_by_styles(text: str) -> list[str]:
    return re.findall(r"(?:@import\s+|url\()[\"']?((?:\w+:)?//[^\"')]+)", text)


def public_names(module: ModuleType) -> list[str]:
    """What it exports: its `__all__`, or else what it defines without an underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    found = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    defined = [n for n, v in vars(module).items() if inspect.getmodule(v) is module]
    return [n for n in [*defined, *(n for _, n in found)] if not n.startswith("_")]


def docstring(module: ModuleType, name: str) -> str:
    """That of a class or function, or the text below a constant, wherever it is defined."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return inspect.getdoc(value) or ""
    for other, loaded in list(sys.modules.items()):
        ours = other.partition(".")[0] in {"orchestrator", "states"}
        has_it = ours and getattr(loaded, name, None) is value
        if has_it and (found := ModuleAnalyzer.for_module(other).find_attr_docs().get(("", name))):
            return "\n".join(found)
    return ""


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    names = public_names(module)
    assert names
    assert [one for one in names if not docstring(module, one).strip()] == []


def test_every_public_module_has_a_page() -> None:
    public = {f"orchestrator.{path.stem}" for path in (ROOT / "orchestrator").iterdir()}
    public = {name for name in public if not re.search(r"\.(_.*|py|cli)$", name)}
    assert public | {"orchestrator", "states"} == set(MODULES)


def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    built = build(ROOT, tmp_path)
    assert built.returncode == 0, built.stderr
    found = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*.html")}
    pages = {name: path.read_text(encoding="utf-8") for name, path in found.items()}
    for name, page in pages.items():
        assert fetched_from_elsewhere(page) == [], name
    for style in tmp_path.rglob("*.css"):
        assert fetched_by_styles(style.read_text("utf-8")) == [], style
    assert pages[Path("index.html")] == pages[Path("README.html")]
    assert all("<svg" in svg.read_text("utf-8") for svg in (tmp_path / "_diagrams").iterdir())
    assert "_diagrams/" in pages[Path("index.html")]
    assert list(without_a_place(pages)) == []
    assert not [name for name, page in pages.items() if "Alias for field number" in page]
    events = pages[API / "orchestrator.html"]
    for field in StageChanged._fields:
        assert events.count(f'id="orchestrator.StageChanged.{field}"') == 1


def without_a_place(pages: Mapping[Path, str]) -> Iterator[str]:
    """Public names that no page of the reference tells of."""
    for name, page in MODULES.items():
        # What `orchestrator` exports again from `states` is found there.
        text = pages[API / f"{page}.html"] + pages[API / "orchestrator.html"]
        found = set(re.findall(r'id="([\w.]+)"', text))
        for one in public_names(importlib.import_module(name)):
            if not {f"{name}.{one}", f"orchestrator.{one}"} & found:
                yield f"{name}.{one}"


BROKEN = """\
# Broken

[no page](nowhere.md), [no heading](README.md#nowhere), [no file](../orchestrator/nowhere.py),
[a file](../there.txt)

```mermaid
this is no diagram
```

```{eval-rst}
.. autofunction:: orchestrator.nothing

:py:class:`orchestrator.Nowhere`
```
"""


FAULTS = (
    "cross-reference target not found: 'nowhere.md'",
    "'nowhere'",
    "'../orchestrator/nowhere.py'",
    "this diagram cannot be drawn",
    "failed to import 'nothing' from module 'orchestrator'",
    "reference target not found: orchestrator.Nowhere",
    "forgotten.md: WARNING: document isn't included in any toctree",
)


def test_a_broken_page_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("README", "CHANGELOG", "SECURITY", "CONTRIBUTING"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n")
    (tmp_path / "there.txt").touch()
    (tmp_path / "docs/README.md").write_text("# Documentation\n\n## How-to\n\n- [x](broken.md)\n")
    (tmp_path / "docs/broken.md").write_text(BROKEN)
    (tmp_path / "docs/forgotten.md").write_text("# Forgotten\n")
    built = build(tmp_path, tmp_path / "site", "dummy")
    assert built.returncode != 0
    for fault in FAULTS:
        assert fault in built.stderr, built.stderr
    assert "there.txt" not in built.stderr


def test_what_pages_fetch_is_seen() -> None:
    page = '<link href="https://fonts.example/a.css"><script src="//cdn.example/b.js"></script>'
    assert len(fetched_from_elsewhere(page)) == 2
    assert fetched_from_elsewhere('<a href="https://example.org">x</a><img src="a.svg">') == []
    assert fetched_by_styles('@import "https://a.example/b"; x { src: url(//c.example/d) }')
