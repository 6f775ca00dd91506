"""The paths of health endpoints, for every gate and for every application that answers them.

Below `/readyz` each condition has a path of its own, as in the API server of Kubernetes:
`/readyz/database`.
"""

from urllib.parse import parse_qsl

HEALTH_PATHS = ("/livez", "/readyz", "/startupz")
"""Liveness, readiness and start-up, by the names that Kubernetes gave them."""


def health_paths(mounted_at: str = "/health") -> tuple[str, ...]:
    """The paths of health endpoints that are mounted there, for a gate's `bypass`.

    Example::

        app.mount("/internal", health_app(startup))
        ReadinessGate(app, startup, bypass=health_paths("/internal"))

    Args:
        mounted_at: Where `health_app` is mounted; empty for the root.

    Raises:
        ValueError: When it does not begin with a slash.
    """
    root = mounted_at.rstrip("/")
    if root and not root.startswith("/"):
        raise ValueError(f"mounted_at is {mounted_at!r}; it must begin with a slash")
    return tuple(root + path for path in HEALTH_PATHS)


BYPASS = (*HEALTH_PATHS, *health_paths())
"""What passes a gate in every stage by default: the root, and the mount that the guides use."""

_READYZ = "/readyz"
_BELOW = "/readyz/"

_MOST_FIELDS = 64
"""So many parameters a check may have."""


def condition_in(path: str, raw: str = "") -> str:
    """The condition that a path asks for, `/readyz/NAME`; empty where it asks for none.

    Args:
        path: The path below the mount point, decoded.
        raw: The whole path as it was sent, or empty where that is not known. In the name an encoded
            slash is a part of it; before it, it is no separator.
    """
    return path[len(_BELOW) :] if path.startswith(_BELOW) and _BELOW in (raw or _BELOW) else ""


def is_health_path(path: str, raw: str = "") -> bool:
    """Whether it is the path of a health check; for the arguments see `condition_in`."""
    return path in HEALTH_PATHS or condition_in(path, raw) != ""


def excluded_in(query: str) -> frozenset[str]:
    """The conditions that a query leaves out: `exclude=NAME`, any number of times.

    Raises:
        ValueError: When there are too many parameters.
    """
    fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    return frozenset(value for name, value in fields if name == "exclude")


def passes(path: str, passing: frozenset[str], *, raw: str, websocket: bool) -> bool:
    """Whether a gate lets this path pass in every stage.

    Where `/readyz` passes, what is below it does, too.

    Args:
        path: The path, decoded.
        passing: What passes.
        raw: The path as it was sent, or empty where that is not known. An encoded slash is part of
            a name, such as that of a room, and no separator.
        websocket: Whether it is a handshake; no WebSocket is a health check.
    """
    mount, _, name = path.partition(_BELOW)
    if path in passing:
        name, sent = "", raw
    elif name and mount + _READYZ in passing:
        # In the name an encoded slash is a part of it, but none leads to it.
        sent, found, _ = raw.partition(_BELOW)
        if raw and not found:
            return False
    else:
        return False
    if "%2f" in sent.lower():
        return False
    return not (websocket and (name or path.endswith(HEALTH_PATHS)))
