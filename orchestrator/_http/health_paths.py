"""The paths of health endpoints, for every gate and for every application that answers them."""

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


def passes(path: str, passing: frozenset[str], *, raw: str, websocket: bool) -> bool:
    """Whether a gate lets this path pass in every stage.

    Args:
        path: The path, decoded.
        passing: What passes.
        raw: The path as it was sent, or empty where that is not known. An encoded slash is part of
            a name, such as that of a room, and no separator.
        websocket: Whether it is a handshake; no WebSocket is a health check.
    """
    if path not in passing or "%2f" in raw.lower():
        return False
    return not (websocket and path.endswith(HEALTH_PATHS))
