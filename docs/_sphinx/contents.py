"""Takes the site's table of contents from `docs/README.md`, so that there is only one list."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

LIST = "docs/README"
PROJECT = ("CHANGELOG", "SECURITY", "CONTRIBUTING")
SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
PAGE = re.compile(r"\]\(([\w./-]+)\.md\)")


def toctree(pages: Iterable[str], caption: str = "") -> str:
    """A table of contents for the sidebar only."""
    titled = f":caption: {caption}\n" if caption else ""
    lines = "".join(f"/{page}\n" for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n:titlesonly:\n{titled}\n{lines}```\n"


def sections(listed: str) -> Iterator[str]:
    """A table of contents for each section that lists pages."""
    directory = PurePosixPath(LIST).parent
    for caption, text in SECTION.findall(listed):
        pages = [str(directory / page) for page in dict.fromkeys(PAGE.findall(text))]
        if pages:
            yield toctree(pages, caption)


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the table of contents to the first page."""
    if docname == app.config.root_doc:
        path = Path(app.srcdir, LIST).with_suffix(".md")
        app.env.note_dependency(str(path))
        listed = sections(path.read_text(encoding="utf-8"))
        source[0] += "".join([toctree([LIST]), *listed, toctree(PROJECT, "Project")])


def add_index(app: Sphinx, exception: Exception | None) -> None:
    """Copy the first page to the name that web servers look for."""
    if exception is None and app.builder.name == "html":
        page = Path(app.outdir, app.config.root_doc).with_suffix(".html")
        page.with_name("index.html").write_bytes(page.read_bytes())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
