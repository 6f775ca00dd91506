"""What is of the wrong type is refused where it is given, and never shown."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import pytest
import redis

import orchestrator.aiohttp
import orchestrator.websockets
from orchestrator import (
    ConditionSpec,
    Failure,
    GateMetrics,
    Observer,
    Orchestrator,
    Probe,
    ProbeResult,
    Stage,
    Target,
)
from orchestrator._runtime.platform_identity import platform_attributes
from orchestrator.asgi import ReadinessGate, health_app, lifespan
from orchestrator.checks import grpc, kafka
from orchestrator.health import GrpcHealth, heartbeat_file, serve_health
from orchestrator.redis import Expect, RedisProbe
from orchestrator.settings import Settings
from orchestrator.testing import ManualClock, ScriptedProbe
from orchestrator.web import web_app
from states import Policy, PolicyError
from tests.faults.scenes import SECRET

pytestmark = pytest.mark.anyio

URL = f"redis://:{SECRET}@host"
PROBE = ScriptedProbe()
CLIENT = redis.Redis(password=SECRET)

# Types are wrong on purpose, and a type checker would say so.
ANY: Any = object()
given: Any = lambda value: value  # noqa: E731  hides a type


async def app(scope: object, receive: object, send: object) -> None:
    """An ASGI application."""


@asynccontextmanager
async def background(_: object) -> AsyncIterator[None]:
    yield


async def not_decorated(_: object) -> AsyncIterator[None]:
    yield


async def a_coroutine() -> None:
    """Never awaited."""


def startup() -> Orchestrator:
    return Orchestrator(PROBE, conditions=["cache"])


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "a URL for a probe": (lambda: Orchestrator(given(URL)), r"RedisProbe\(url\)"),
    "a URL as bytes": (lambda: Orchestrator(given(URL.encode())), r"RedisProbe\(url\)"),
    "no probe": (lambda: Orchestrator(given(None)), r"RedisProbe\(url\)"),
    "the class of a probe": (lambda: Orchestrator(given(ScriptedProbe)), "the class ScriptedProbe"),
    "a policy as a dict": (
        lambda: Orchestrator(PROBE, policy=given({"a": SECRET})),
        r"not a dict|not dict",
    ),
    "an empty dict for a policy": (lambda: Orchestrator(PROBE, policy=given({})), "policy must be"),
    "the class of a policy": (lambda: Orchestrator(PROBE, policy=given(Policy)), "class Policy"),
    "a flag as text": (lambda: Orchestrator(PROBE, enabled=given("false")), "enabled must be"),
    "the class of an observer": (
        lambda: Orchestrator(PROBE, observers=[given(Observer)]),
        "instances of subclasses",
    ),
    "a function as an observer": (lambda: Orchestrator(PROBE, observers=[given(app)]), "instances"),
    "one observer, no list": (lambda: Orchestrator(PROBE, observers=given(Observer())), "a list"),
    "a name as observers": (lambda: Orchestrator(PROBE, observers=given(SECRET)), "a list"),
    "observe with a class": (lambda: startup().observe(given(Observer)), "the class Observer"),
    "a number for a clock": (lambda: Orchestrator(PROBE, clock=given(5.0)), "clock must be"),
    "the class of a clock": (lambda: Orchestrator(PROBE, clock=given(ManualClock)), "clock must"),
    "a seed for random": (lambda: Orchestrator(PROBE, random=given(5)), r"random\.Random\(seed\)"),
    "conditions as a dict": (
        lambda: Orchestrator(PROBE, conditions=given({"cache": True})),
        "conditions must be a list",
    ),
    "conditions as bytes": (lambda: Orchestrator(PROBE, conditions=given(b"a")), "must be a list"),
    "one condition, no list": (
        lambda: Orchestrator(PROBE, conditions=given(ConditionSpec("a"))),
        "must be a list",
    ),
    "no conditions": (lambda: Orchestrator(PROBE, conditions=given(None)), "must be a list"),
    "a condition as bytes": (lambda: Orchestrator(PROBE, conditions=[given(b"a")]), "a name or a"),
    "a condition as a pair": (
        lambda: Orchestrator(PROBE, conditions=[given((SECRET, True))]),
        "a name or a ConditionSpec, not tuple",
    ),
    "the name of a spec": (lambda: ConditionSpec(given(5)), "name of a condition must be a str"),
    "whether it is required": (lambda: ConditionSpec("a", given("no")), "required must be a bool"),
    "asking for bytes": (lambda: startup().condition(given(b"cache")), "name of a condition"),
    "on without parentheses": (lambda: startup().on(given(app)), "with the parentheses"),
    "on of a call": (lambda: startup().on(Stage.READY)(given(None)), "a function, not NoneType"),
    "the gate, swapped": (
        lambda: ReadinessGate(given(startup()), given(app)),
        r"ReadinessGate\(app, startup\)",
    ),
    "the gate of a URL": (lambda: ReadinessGate(app, given(URL)), "must be an Orchestrator"),
    "the gate of a module's name": (lambda: ReadinessGate(given("a:b"), startup()), "app must be"),
    "the gate around itself": (lambda: ReadinessGate(given(startup()), startup()), "app must be"),
    "a gate's health as text": (
        lambda: ReadinessGate(app, startup(), health=given("yes")),
        "health must be a bool or",
    ),
    "a hook that was called": (
        lambda: ReadinessGate(app, startup(), on_admission=given(5)),
        "on_admission must be a function",
    ),
    "the class of metrics": (
        lambda: ReadinessGate(app, startup(), metrics=given(GateMetrics)),
        "the class GateMetrics",
    ),
    "a number as text": (
        lambda: ReadinessGate(app, startup(), max_held=given(SECRET)),
        "max_held must be a number",
    ),
    "a limit as text": (
        lambda: ReadinessGate(app, startup(), limits={"/chat": given(SECRET)}),
        "must be a number",
    ),
    "a health port, swapped": (lambda: serve_health(given(8081), given(startup())), "startup must"),
    "a health port as text": (
        lambda: serve_health(startup(), given("8081")),
        "port must be",
    ),
    "a heartbeat without a path": (lambda: heartbeat_file(startup(), given(None)), "path must be"),
    "a heartbeat's pace as text": (
        lambda: heartbeat_file(startup(), "/x", interval_seconds=given(SECRET)),
        "interval_seconds must be a number",
    ),
    "one service, no list": (lambda: GrpcHealth(startup(), services=given("a.B")), "services must"),
    "an HTTP server for gRPC": (lambda: GrpcHealth(startup()).add_to(app), "a server of grpc or"),
    "a port for an address": (lambda: grpc(given(50051)), "address must be a str"),
    "metadata as text": (lambda: grpc("a:1", metadata=given(SECRET)), "metadata must be a mapping"),
    "a path for TLS": (lambda: grpc("a:1", tls=given("/ca.pem")), "tls must be a bool or an ssl"),
    "no bootstrap": (lambda: kafka(given(None)), "bootstrap must be text or"),
    "a password for SASL": (lambda: kafka("a", sasl=given(SECRET)), "sasl must be mechanism, name"),
    "one number for two": (
        lambda: ReadinessGate(app, startup(), retry_after_seconds=given(3)),
        "a pair of whole numbers",
    ),
    "fractions that no header knows": (
        lambda: health_app(startup(), retry_after_seconds=given((0.5, 1.5))),
        "retry_after_seconds must be an int",
    ),
    "paths as bytes": (lambda: ReadinessGate(app, startup(), bypass=given(b"/")), "of paths"),
    "a path as bytes": (lambda: ReadinessGate(app, startup(), bypass=[given(b"/")]), "a path must"),
    "health of an application": (lambda: health_app(given(app)), "startup must be"),
    "a page of an application": (lambda: web_app(given(app)), "startup must be"),
    "a page's title": (lambda: web_app(startup(), title=given(b"x")), "title must be a str"),
    "a page's gate": (lambda: web_app(startup(), gate=given(app)), "gate must be a gate"),
    "aiohttp's gate of a URL": (lambda: orchestrator.aiohttp.ReadinessGate(given(URL)), "startup"),
    "websockets' gate of a URL": (
        lambda: orchestrator.websockets.process_request(given(URL)),
        "startup must be",
    ),
    "a lifespan of what it returned": (
        lambda: lifespan(startup(), given(background(app))),
        "give the function itself",
    ),
    "a lifespan of a coroutine": (
        lambda: lifespan(startup(), given(a_coroutine())),
        "give the function itself",
    ),
    "a lifespan that is not decorated": (
        lambda: lifespan(startup(), given(not_decorated)),
        "decorate it with asynccontextmanager",
    ),
    "a lifespan that is a coroutine's": (
        lambda: lifespan(startup(), given(a_coroutine)),
        "decorate it with asynccontextmanager",
    ),
    "a lifespan, swapped": (lambda: lifespan(given(background), given(startup())), "startup must"),
    "a lifespan of the application": (lambda: lifespan(given(app)), "startup must be"),
    "a result that took text": (lambda: ProbeResult(given(SECRET)), "latency_seconds must be"),
    "a result with a reason": (lambda: ProbeResult(0.1, given(SECRET)), "must be a Failure"),
    "a failure of no kind": (
        lambda: ProbeResult(0.1, Failure(given("transient"), "A", "b")),
        "kind must be a FailureKind",
    ),
    "no URL": (lambda: RedisProbe(given(None)), "is the variable"),
    "a URL of bytes": (lambda: RedisProbe(given(URL.encode())), "URL must be a str"),
    "a client for a URL": (lambda: RedisProbe(given(CLIENT)), r"RedisProbe\.from_client\(client\)"),
    "a URL for a client": (lambda: RedisProbe.from_client(given(URL)), r"RedisProbe\(url\)"),
    "a pool for a client": (
        lambda: RedisProbe.from_client(given(CLIENT.connection_pool)),
        "client must be a client of redis-py",
    ),
    "the class of a client": (
        lambda: RedisProbe.from_client(given(redis.Redis)),
        "the class Redis",
    ),
    "expecting a dict": (lambda: RedisProbe("redis://", expect=given({})), "expect must be"),
    "expecting a cluster of text": (lambda: Expect(cluster=given("no")), "cluster must be a bool"),
    "a canary of bytes": (lambda: Expect(canary_prefix=given(b"x")), "canary_prefix must be"),
    "a canary that lives for text": (
        lambda: Expect(canary_expiry_seconds=given("5")),
        "canary_expiry_seconds must be a number of seconds, not str",
    ),
    "a canary that lives for True": (
        lambda: Expect(canary_expiry_seconds=True),
        "canary_expiry_seconds must be a number of seconds, not bool",
    ),
    "sentinels as text": (lambda: RedisProbe.from_sentinel(given(URL), "m"), "a list of pairs"),
    "a sentinel as text": (lambda: RedisProbe.from_sentinel([given(URL)], "m"), "a pair of host"),
    "a sentinel of three": (
        lambda: RedisProbe.from_sentinel([given((SECRET, 1, 2))], "m"),
        "a pair of host and port",
    ),
    "a sentinel's port as text": (
        lambda: RedisProbe.from_sentinel([given(("host", SECRET))], "m"),
        "port must be",
    ),
    "a sentinel's host as bytes": (
        lambda: RedisProbe.from_sentinel([given((b"host", 26379))], "m"),
        "host must be a str",
    ),
    "a service of bytes": (
        lambda: RedisProbe.from_sentinel([("host", 26379)], given(b"m")),
        "service_name must be a str",
    ),
    "a target's port": (lambda: Target(port=given("6379")), "port must be"),
}


@pytest.mark.parametrize(("give", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_of_the_wrong_type_is_refused_where_it_is_given(
    give: Callable[[], object], says: str
) -> None:
    with pytest.raises(TypeError, match=says) as refused:
        give()
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_result_that_took_no_time_that_there_is_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="latency_seconds must be a finite number"):
        ProbeResult(seconds)


@pytest.mark.parametrize("value", [f"redis://:{SECRET}@h", SECRET, SECRET.encode(), [SECRET]])
def test_a_policy_shows_no_value_that_is_no_number(value: object) -> None:
    for field in ("grace_seconds", "failures_to_degrade", "platform"):
        with pytest.raises(PolicyError, match=f"Policy.{field} is a {type(value).__name__}") as bad:
            Policy(**{field: given(value)})
        assert SECRET not in str(bad.value)


def test_what_is_right_is_taken() -> None:
    class Subclass(Orchestrator):
        pass

    whole = Subclass(
        PROBE, policy=Policy(), conditions=("a", ConditionSpec("b")), random=Random(1), clock=None
    )
    assert ReadinessGate(app, whole, bypass={"/a"}, health=health_app(whole)).held == 0
    assert callable(lifespan(whole, background))
    assert callable(web_app(whole, gate=ReadinessGate(app, whole)))


NAMES = {"empty": "", "blank": " \n", "too long": "x" * 101, "far too long": "x" * 10_000_000}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_name_of_a_condition_is_neither_empty_nor_long(name: str) -> None:
    with pytest.raises(ValueError, match="name") as refused:
        Orchestrator(PROBE, conditions=[name])
    assert len(str(refused.value)) < 200


def test_names_that_look_the_same_are_one_condition() -> None:
    named = Orchestrator(PROBE, conditions=["chat\nlistener", "\x1b[2J", "\udcff"])
    assert list(named.explain().conditions) == ["chat listener", r"\x1b[2J", r"\udcff"]
    for name in ("chat\nlistener", "chat listener", "\x1b[2J", r"\x1b[2J"):
        assert named.condition(name) is named.condition(name.strip())
    with pytest.raises(ValueError, match="declared twice"):
        Orchestrator(PROBE, conditions=["chat\nlistener", "chat listener"])


@pytest.mark.parametrize("value", ["yes", 1, None, app, b"", [True]])
async def test_a_condition_is_true_or_false_and_nothing_else(value: object) -> None:
    async with startup() as running:
        with pytest.raises(TypeError, match="satisfied must be a bool"):
            running.condition("cache").set(given(value))
        assert not running.explain().conditions["cache"].satisfied


class Shapeless(Probe):
    """A probe whose answers and target are what a test says."""

    def __init__(self, answer: object, target: object = None) -> None:
        self._answer = answer
        self._target = target

    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        await anyio.lowlevel.checkpoint()
        return given(self._answer)  # type: ignore[no-any-return]  # that is the point

    @property
    def target(self) -> Target:
        if self._target is None:
            raise RuntimeError(SECRET)
        return given(self._target)  # type: ignore[no-any-return]  # the same


@pytest.mark.parametrize("target", [None, 5, SECRET, (SECRET, 1)])
async def test_a_probe_that_cannot_say_what_it_asks_ends_no_start_up(
    target: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "orchestrator"):
        async with Orchestrator(Shapeless(ProbeResult(0.0), target)) as running:
            await running.wait_for(Stage.READY)
    assert "the target of a Shapeless is not known" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://\x1f",
        "redis://a b",
        "redis://%1b[2J",
        "redis://\u202ehost",
        f"redis://{SECRET}%40:6379",
        "redis://?host=a%0Ab",
        "redis:",
        "REDIS://host",
    ],
)
def test_a_url_leads_to_a_host_or_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the Redis URL") as refused:
        RedisProbe(url)
    assert SECRET not in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_path_of_any_characters_is_shown_as_one_line() -> None:
    probe = RedisProbe("unix:///run/a%0Ab%1b[2J%ff")
    assert repr(probe).isprintable()
    assert probe.target.address.isprintable()


def test_a_variable_of_any_name_is_warned_of_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "orchestrator"):
        Settings.from_environment({"ORCHESTRATOR_\x1b[2J\n\udcff": "1"})
    assert caplog.messages
    assert all(message.isprintable() for message in caplog.messages)


def test_what_a_platform_says_of_itself_can_be_exported_whatever_it_is() -> None:
    found = platform_attributes({"K_SERVICE": "a\udcff\nb", "K_REVISION": "x" * 100_000})
    assert found["service.name"] == r"a\udcff b"
    assert len(str(found["faas.version"])) == 500
