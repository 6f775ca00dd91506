"""What keeps pages of other sites from reading, embedding or steering this one."""

from urllib.parse import urlsplit

from orchestrator._http.asgi_types import Header, Scope

SAFE_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every answer: nothing is kept, guessed at, passed to others or embedded by them."""


def is_foreign(scope: Scope, *, may_be_linked: bool) -> bool:
    """Whether another site's page asks, in the browser of a person who may ask.

    `Sec-Fetch-Site` decides where the browser sends it: no script can forge it, and no proxy
    changes it. Older browsers and plain HTTP leave `Origin`, which names the host.

    Args:
        scope: The request.
        may_be_linked: Whether a link on another site may lead here.
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        followed = (
            headers.get(b"sec-fetch-mode") == "navigate"
            and headers.get(b"sec-fetch-dest") == "document"
        )
        return site not in ("same-origin", "none") and not (may_be_linked and followed)
    origin = headers.get(b"origin")
    return origin is not None and urlsplit(origin).netloc != headers.get(b"host")
