"""Lets `autodata` find the text below a constant that a package imports from its modules."""

import sys
from typing import Literal

from sphinx.application import Sphinx
from sphinx.ext.autodoc import Options
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import ExtensionMetadata

PACKAGES = ("orchestrator", "states")

Kind = Literal[
    "module", "class", "exception", "function", "method", "attribute", "data", "type", "property"
]


def text_below(name: str, value: object) -> list[str]:
    """The string below the line that defines the constant."""
    for module in list(sys.modules):
        if module.partition(".")[0] not in PACKAGES:
            continue
        if getattr(sys.modules[module], name, None) is value:
            found = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name))
            if found:
                return found
    return []


def document_constants(
    _app: Sphinx, kind: Kind, name: str, value: object, _options: Options, lines: list[str]
) -> None:
    """Replace the docstring of the value's type with that text."""
    if kind in {"data", "type"}:
        lines[:] = text_below(name.rpartition(".")[2], value) or lines


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", document_constants)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
