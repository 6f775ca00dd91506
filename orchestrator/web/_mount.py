"""Mounting the page in front of an application, whatever framework that is made with."""

from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send, route_path


def web_mount(app: ASGIApp, page: ASGIApp, path: str = "/startup") -> ASGIApp:
    """An application with the page in front of it: what is around `app` has no part in the page.

    Example::

        gate = ReadinessGate(app, startup)
        service = web_mount(gate, web_app(startup, gate=gate))

    The path and all below it are the page's, the path without its slash too; frameworks leave that
    to a route which takes everything, such as `Mount("/", gate)`. All else is `app`'s, the lifespan
    with it.

    Args:
        app: Any ASGI application, such as a `ReadinessGate`.
        page: What `web_app` returned.
        path: Where the page is.

    Raises:
        ValueError: When the path cannot be one.
    """
    mount = path.rstrip("/")
    if not mount.startswith("/"):
        raise ValueError(f"path is {path!r}; it must begin with a slash and name a place below it")

    async def service(scope: Scope, receive: Receive, send: Send) -> None:
        taken = scope["type"] in ("http", "websocket") and _below(mount, route_path(scope))
        if taken:
            await page(_mounted(scope, mount), receive, send)
        else:
            await app(scope, receive, send)

    return service


def _below(mount: str, path: str) -> bool:
    return path == mount or path.startswith(mount + "/")


def _mounted(scope: Scope, mount: str) -> Scope:
    """What the page gets: where it is mounted, and the whole path, as the specification has it.

    Some servers leave their own prefix out of the path.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    return {**scope, "root_path": root + mount, "path": root + route_path(scope)}
