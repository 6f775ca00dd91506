"""Leaves the fields of a `NamedTuple` to its docstring, as those of a dataclass are."""

from typing import NamedTuple

from sphinx.application import Sphinx
from sphinx.ext.autodoc import Options
from sphinx.util.typing import ExtensionMetadata


class _Any(NamedTuple):
    field: int


_FIELD = type(vars(_Any)["field"])
"""What stands for a field in every named tuple; "Alias for field number 0" is all it says."""


def leave_fields(
    _app: Sphinx, _kind: str, _name: str, member: object, _skip: bool, _options: Options
) -> bool | None:
    """Whether the member has no entry of its own; None leaves that to Sphinx."""
    return True if isinstance(member, _FIELD) else None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", leave_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
