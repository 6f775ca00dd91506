"""Which requests pass the gate in every stage."""

import inspect
from collections.abc import Callable, Collection

from orchestrator._hardening.arguments import paths_of, wrong_type
from orchestrator._hardening.guard import CallGuard
from orchestrator._http.asgi_types import Scope, raw_path, route_path
from orchestrator._http.health_paths import passes


def passing(bypass: Collection[str] | Callable[[Scope], bool]) -> Callable[[Scope], bool]:
    """What tells whether a request passes: by its path, or by a function of the application's.

    Raises:
        TypeError: When it is no collection of `str`, and no plain function.
        ValueError: When it is a single path.
    """
    return _asked(bypass) if callable(bypass) else _in(bypass)


def _asked(bypass: Callable[[Scope], bool]) -> Callable[[Scope], bool]:
    """What asks the function. A request for which that raises does not pass."""
    if any(map(inspect.iscoroutinefunction, (bypass, getattr(bypass, "__call__", None)))):  # noqa: B004  it is callable
        # What it returns would be true for every request.
        raise wrong_type(bypass, "bypass", "a plain function", "do not write it with async")
    guard = CallGuard("bypass", bypass)

    def asked(scope: Scope) -> bool:
        answer = False

        def ask() -> None:
            nonlocal answer
            answer = bool(bypass(scope))

        guard.call(ask)
        return answer

    return asked


def _in(paths: Collection[str]) -> Callable[[Scope], bool]:
    known = paths_of(paths)

    def bypass(scope: Scope) -> bool:
        websocket = scope["type"] == "websocket"
        return passes(route_path(scope), known, raw=raw_path(scope), websocket=websocket)

    return bypass
