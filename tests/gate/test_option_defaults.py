"""An option that several gates or health endpoints have is the same in all of them."""

import inspect
from collections import defaultdict
from collections.abc import Callable

from orchestrator import aiohttp, asgi, health, websockets, wsgi
from orchestrator._gate.admission import Admission
from orchestrator._gate.health_answers import HealthAnswers
from orchestrator._gate.health_verdict import HealthRules

FACES: tuple[Callable[..., object], ...] = (
    *(asgi.ReadinessGate, asgi.health_app, asgi.deferred, aiohttp.ReadinessGate),
    *(websockets.process_request, wsgi.ReadinessGate),
    *(health.serve_health, health.heartbeat_file, health.GrpcHealth),
    *(Admission, HealthAnswers, HealthRules),
)

NOT_ALIKE = {
    "max_held": "a held request of WSGI takes up a thread",
    "bypass": "gates without health endpoints have none to let pass",
    "health": "`deferred` has them unless told otherwise",
}


def defaults() -> dict[str, list[object]]:
    """The default of each option, wherever it is."""
    found: dict[str, list[object]] = defaultdict(list)
    for face in FACES:
        for name, option in inspect.signature(face).parameters.items():
            if option.default is not inspect.Parameter.empty:
                found[name].append(option.default)
    return found


def test_an_option_has_the_same_default_wherever_it_is() -> None:
    unlike = {name for name, values in defaults().items() if any(v != values[0] for v in values)}
    assert unlike == set(NOT_ALIKE)


def test_the_options_that_are_compared_stand_in_several_places() -> None:
    shared = {name for name, values in defaults().items() if len(values) > 2}
    assert shared >= {"hold_seconds", "retry_after_seconds", "admit_degraded", "details", "pod"}
