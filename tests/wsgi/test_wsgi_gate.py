"""The WSGI gate called as a server calls it: by the rules of PEP 3333, from several threads."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from orchestrator import Orchestrator, Policy
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ScriptedProbe
from orchestrator.wsgi import ReadinessGate

PATIENCE_SECONDS = 30.0


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


def a_startup(probe: ScriptedProbe | None = None, **options: Any) -> Orchestrator:
    policy = Policy(grace_seconds=0.0)
    probe = probe or ScriptedProbe()
    return Orchestrator(probe, policy=policy, conditions=["go"], **options)


@pytest.fixture
def gates() -> Iterator[Callable[..., ReadinessGate]]:
    made: list[ReadinessGate] = []

    def make(startup: Orchestrator, **options: Any) -> ReadinessGate:
        made.append(ReadinessGate(validator(application), startup, **options))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


def ask(
    gate: ReadinessGate,
    path: str = "/",
    method: str = "GET",
    *,
    threads: bool = True,
    raw: str = "",
) -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {
        "PATH_INFO": path,
        "REQUEST_METHOD": method,
        "wsgi.multithread": threads,
        "QUERY_STRING": "",
    }
    environ |= {"RAW_URI": raw} if raw else {}
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> object:
        told.extend([status, dict(headers)])
        return lambda _: None

    body = validator(gate)(environ, start_response)  # type: ignore[arg-type]  # of typeshed's own kind
    content = b"".join(body)
    body.close()  # type: ignore[attr-defined]  # the validator's
    return told[0], told[1], content


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


def in_threads(number: int, asks: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(asks())) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads, answers


def test_it_begins_with_the_first_request_and_holds_within_its_limit(
    gates: Callable[..., ReadinessGate],
) -> None:
    startup, outcomes = a_startup(), list[str]()
    gate = gates(startup, max_held=2, hold_seconds=20, health=True, on_admission=outcomes.append)
    assert not startup.running
    threads, answers = in_threads(2, lambda: ask(gate))
    until(lambda: gate.held == 2)
    status, headers, body = ask(gate)
    assert (status, headers["Retry-After"] in "123") == ("503 Service Unavailable", True)
    assert "too many" in json.loads(body)["detail"]
    assert ask(gate, "/readyz")[0].startswith("503")
    assert ask(gate, "/livez")[0] == "200 OK"
    assert ask(gate, "/health/livez")[0] == "200 OK"  # the application's own mount
    startup.condition("go").set(True)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert [answer[0] for answer in answers] == ["200 OK"] * 2
    assert ask(gate)[2] == b"ok"
    assert json.loads(ask(gate, "/readyz")[2]) == {"status": "pass", "stage": "ready"}
    assert ask(gate, "/readyz", "HEAD")[2] == b""
    assert ask(gate, "/readyz", "POST")[1]["Allow"] == "GET, HEAD"
    assert ask(gate, "/readyz/go")[0] == "200 OK"
    assert sorted(outcomes) == ["admitted"] * 3 + ["overflow"]
    assert (gate.counts.admitted, gate.counts.overflow, gate.counts.held) == (3, 1, 2)
    assert (gate.held, gate.closes) == (0, {})


def test_where_one_request_comes_after_the_other_none_is_held(
    gates: Callable[..., ReadinessGate],
) -> None:
    startup = a_startup()
    gate = gates(startup, max_held=5, hold_seconds=60)
    began = time.monotonic()
    assert ask(gate, threads=False)[0].startswith("503")
    assert time.monotonic() - began < 30
    startup.condition("go").set(True)
    until(lambda: startup.ready)
    assert ask(gate, threads=False)[0] == "200 OK"


def test_held_requests_end_with_their_time_with_degraded_and_with_the_end(
    gates: Callable[..., ReadinessGate],
) -> None:
    gate = gates(a_startup(), hold_seconds=0.05)
    assert ask(gate)[0].startswith("503")
    assert gate.counts.timed_out == 1
    for end in ("degraded", "left"):
        probe = ScriptedProbe([REFUSED])
        startup = a_startup(probe)
        gate = gates(startup, hold_seconds=20)
        threads, answers = in_threads(1, lambda gate=gate: ask(gate))  # type: ignore[misc]  # a lambda's default has no type
        until(lambda gate=gate: gate.held == 1)  # type: ignore[misc]  # a lambda's default has no type
        if end == "degraded":
            probe.then(WRONG_PASSWORD)
        else:
            gate.close()
        threads[0].join(PATIENCE_SECONDS)
        assert answers[0][0].startswith("503"), end
        assert ("degraded" if end == "degraded" else "stopping") in answers[0][2].decode()
        assert gate.counts.refused == 1


def test_degraded_admits_only_where_that_is_wanted(gates: Callable[..., ReadinessGate]) -> None:
    for admits, status in ((False, "503"), (True, "200")):
        startup = a_startup(ScriptedProbe([WRONG_PASSWORD]))
        gate = gates(startup, admit_degraded=admits)
        gate.start()
        until(lambda startup=startup: startup.stage == "degraded")  # type: ignore[misc]  # a lambda's default has no type
        assert ask(gate)[0].startswith(status)
    assert ask(gates(a_startup(enabled=False)))[0] == "200 OK"


def test_bypass_is_exact(gates: Callable[..., ReadinessGate]) -> None:
    gate = gates(a_startup(), hold_seconds=0, bypass=["/status", "/\u00e9t\u00e9"])
    assert ask(gate, "/status")[0] == "200 OK"
    assert ask(gate, "/\u00e9t\u00e9".encode().decode("latin-1"))[0] == "200 OK"
    assert ask(gate, "/statuses")[0].startswith("503")
    assert ask(gate, "/livez")[0].startswith("503")
    assert ask(gate, "/status", raw="/%2fstatus")[0].startswith("503")


def test_what_runs_already_is_not_entered_again(gates: Callable[..., ReadinessGate]) -> None:
    startup = a_startup()
    gate = gates(startup)
    with startup.run_in_thread():
        startup.condition("go").set(True)
        until(lambda: startup.ready)
        gate.start()
        gate.start()
        assert ask(gate)[0] == "200 OK"
        gate.close()
        assert startup.ready


def test_without_a_start_it_says_so_at_once(gates: Callable[..., ReadinessGate]) -> None:
    gate = gates(a_startup(), run_in_thread=False, hold_seconds=60)
    began = time.monotonic()
    status, _, body = ask(gate)
    assert (status[:3], time.monotonic() - began < 30) == ("503", True)
    assert "never began" in json.loads(body)["detail"]


class Broken(ScriptedProbe):
    def prepare(self, policy: Policy) -> None:
        raise RuntimeError("a fault that was ordered")


def test_a_start_that_fails_is_logged_once_and_refuses(
    gates: Callable[..., ReadinessGate], caplog: pytest.LogCaptureFixture
) -> None:
    gate = gates(a_startup(Broken()), health=True)
    for _ in range(2):
        assert "could not begin" in ask(gate)[2].decode()
    assert ask(gate, "/readyz")[0].startswith("503")
    assert caplog.text.count("the orchestrator could not be entered") == 1


def test_a_uwsgi_without_threads_is_named_at_once_and_others_are_not(
    gates: Callable[..., ReadinessGate],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for options, lacks in (
        ({"http": b":80"}, True),
        ({"enable-threads": True}, False),
        ({b"threads": b"2"}, False),
    ):
        caplog.clear()
        monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))
        startup = a_startup()
        gate = gates(startup, health=True, hold_seconds=0)
        assert ("--enable-threads" in caplog.text) == lacks
        assert ("--enable-threads" in ask(gate)[2].decode()) == lacks
        assert startup.running == (not lacks)
        assert ask(gate, "/readyz")[0].startswith("503")
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_wrong_arguments_are_refused_where_they_are_given() -> None:
    startup = a_startup()
    with pytest.raises(TypeError, match="app must be a WSGI application"):
        ReadinessGate(startup, application)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="startup must be an Orchestrator"):
        ReadinessGate(application, application)  # type: ignore[arg-type]  # wrong on purpose
    for wrong in ({"max_held": -1}, {"hold_seconds": float("inf")}, {"bypass": "/x"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ReadinessGate(application, startup, **wrong)
    with pytest.raises(TypeError, match="health must be a bool"):
        ReadinessGate(application, startup, health=1)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="pod needs health=True"):
        ReadinessGate(application, startup, pod=object())  # type: ignore[arg-type]  # wrong on purpose
