"""The site that `make docs` builds from the repository's Markdown, without the network.

The source directory is the whole repository, so that links between pages, and from pages to other
files, work here as on a code host. Every warning is an error: `sphinx-build -W -n`.
"""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_sphinx"))

project = "startup-orchestrator"
author = "the startup-orchestrator contributors"
release = version = installed_version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["constants", "contents", "diagrams", "fields"]  # of docs/_sphinx
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "dist", "tests", "orchestrator", "states"]

html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 4  # links to headings, as on code hosts
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

default_role = "py:obj"
nitpick_ignore_regex = [
    # Backticks in a docstring make a link if it is a name, otherwise just code.
    ("py:obj", r".*"),
    # Names from other projects: without the network there is no inventory to find them in.
    (
        "py:.*",
        r"(abc|aiohttp|anyio|collections|contextlib|enum|opentelemetry|os|random|redis|ssl|types)\..+",
    ),
    ("py:class", r"pydantic\..+"),
    ("py:class", r"AnyValue|LoggerProvider"),  # OpenTelemetry's, imported for type checkers only
    ("py:class", r"states\._policy\.PolicyOverrides"),  # its fields are those of Policy
    # Private classes and type variables.
    ("py:class", r"orchestrator\.(_core|_gate|_runtime|fleet\._\w+)\..+"),
    ("py:class", r"orchestrator\.otel\._setup\..+"),
    ("py:class", r"orchestrator\.web\._state\.Gate"),
]
