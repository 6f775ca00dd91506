"""The page: one file, and a policy that lets it run nothing but itself."""

import base64
import hashlib
import html
import re
from importlib.resources import files

_TITLE = "@@title@@"


def render(title: str) -> bytes:
    """The page with its title."""
    source = files("orchestrator.web").joinpath("page.html").read_text(encoding="utf-8")
    return source.replace(_TITLE, html.escape(title)).encode()


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
