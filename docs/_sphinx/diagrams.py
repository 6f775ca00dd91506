"""Draws Mermaid diagrams while the site is built: no script, no network."""

import hashlib
from html import escape
from pathlib import Path

import mmdr
from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

DIRECTORY = "_diagrams"


class Mermaid(SphinxDirective):
    """A fenced block named `mermaid`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Draw it into a file next to the pages, and show that."""
        source = "\n".join(self.content)
        try:
            drawing = mmdr.render(source).svg()
        except Exception as error:  # it has no error class of its own
            raise self.error(f"this diagram cannot be drawn: {error}") from error
        name = f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.svg"
        path = Path(self.env.app.outdir, DIRECTORY, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(drawing, encoding="utf-8")
        url = f"{'../' * self.env.docname.count('/')}{DIRECTORY}/{name}"
        # On white, which the drawing is made for; the site may be dark.
        html = (
            f'<a href="{url}"><img src="{url}" alt="{escape(source)}"'
            ' style="background: white; width: 100%"></a>'
        )
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("mermaid", Mermaid)
    app.add_lexer("traceql", TextLexer)  # Pygments has none
    return {"parallel_read_safe": True, "parallel_write_safe": True}
