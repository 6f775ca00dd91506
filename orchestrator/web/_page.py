"""A page: one file once its parts are in it, and a policy that lets it run nothing but itself."""

import base64
import hashlib
import html
import re
from importlib.resources import files

_TITLE = "@@title@@"
_PART = re.compile(r"@@([a-z]+\.[a-z]+)@@\n")


def render(title: str, name: str = "page.html", room: str = "orchestrator.web") -> bytes:
    """A page with its title, and with the parts that all pages share.

    Args:
        title: Its title.
        name: The file that the page is in.
        room: The package that the file is in.
    """
    source = _PART.sub(lambda found: _text("orchestrator.web", found[1]), _text(room, name))
    return source.replace(_TITLE, html.escape(title)).encode()


def _text(room: str, name: str) -> str:
    return files(room).joinpath(name).read_text(encoding="utf-8")


def policy(page: bytes) -> str:
    """The Content-Security-Policy of a page: its own script and style by their hashes, no more."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(page, 'script')}",
            f"style-src {_hashes(page, 'style')}",
            "connect-src 'self'",
            "img-src data:",  # the icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hashes(page: bytes, tag: str) -> str:
    found = re.findall(rb"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
