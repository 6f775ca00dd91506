"""Leaves the fields of a `NamedTuple` to its docstring, as with a dataclass."""

from typing import NamedTuple

from sphinx.application import Sphinx
from sphinx.ext.autodoc import Options
from sphinx.util.typing import ExtensionMetadata


class _Any(NamedTuple):
    field: int


_FIELD = type(vars(_Any)["field"])
"""The type of a named tuple's fields, whose docstring says only "Alias for field number 0"."""


def leave_fields(
    _app: Sphinx, _kind: str, _name: str, member: object, _skip: bool, _options: Options
) -> bool | None:
    """Whether to skip the member; None leaves that to Sphinx."""
    return True if isinstance(member, _FIELD) else None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", leave_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
