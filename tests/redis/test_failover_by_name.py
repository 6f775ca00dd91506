"""Failovers that move a name to another server while every open connection stays where it is."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import anyio.to_thread
import pytest
import redis

from orchestrator import Stage
from orchestrator.redis import Expect, RedisProbe
from states import Policy, ProbeSucceeded
from tests.faults.real_scenes import Real, real
from tests.faults.scenes import wait_until
from tests.faults.watching import QUICK, watched
from tests.redis_server import FakeServer, relay

pytestmark = pytest.mark.anyio

PACE = replace(QUICK, probe_interval_seconds=0.05)
NAME = "redis.failover.test"


class Service:
    """A primary, its replica, and one way to the server that is in charge.

    Attributes:
        url: Leads to the server that the way points at when a connection is opened.
        first: The primary at first.
        second: Its replica.
    """

    def __init__(self, first: Real, second: Real) -> None:
        self.first = first
        self.second = second
        self.url = ""
        self._points_at = first.server.port
        wait_until(lambda: second.admin.info("replication")["master_link_status"] == "up")

    def port(self) -> int:
        return self._points_at

    def fail_over(self, *, follow: bool) -> None:
        """Swap the roles, and close nobody's connection; let the way follow, or not yet."""
        self.second.admin.replicaof("NO", "ONE")
        if follow:
            self.follow()
        self.first.admin.replicaof("127.0.0.1", self.second.server.port)

    def follow(self) -> None:
        """Have the way lead to the new primary."""
        self._points_at = self.second.server.port


@contextmanager
def _service() -> Iterator[Service]:
    quickly = ("--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        first = stack.enter_context(real(*quickly))
        of_it = ("--replicaof", "127.0.0.1", str(first.server.port))
        yield Service(first, stack.enter_context(real(*quickly, *of_it)))


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with _service() as known:
        if request.param == "a proxy":

            def pass_on(sock: socket.socket) -> None:
                relay(known.port())(sock)

            with FakeServer(pass_on) as proxy:
                known.url = proxy.url
                yield known
            return
        ask = socket.getaddrinfo

        def look_up(host: object, port: object, *rest: object, **more: object) -> object:
            if host == NAME:
                host, port = "127.0.0.1", known.port()
            return ask(host, port, *rest, **more)  # type: ignore[arg-type]  # the caller's

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        known.url = f"redis://{NAME}/0"
        yield known


def connections(server: Real) -> int:
    return int(server.admin.info("stats")["total_connections_received"])


@pytest.mark.parametrize(
    ("service", "expect", "error_type"),
    [
        ("a name", Expect(role="master"), "ReadOnlyReplica"),
        ("a proxy", Expect(canary_prefix="canary:"), "READONLY"),
        ("a proxy", Expect(role="master", canary_prefix="canary:"), "ReadOnlyReplica"),
    ],
    ids=["role", "canary", "both"],
    indirect=["service"],
)
async def test_a_probe_that_expects_a_master_leaves_one_that_was_demoted(
    service: Service, expect: Expect, error_type: str
) -> None:
    probe = RedisProbe(service.url, expect=expect)
    async with watched(probe, PACE) as (_, diary):
        await anyio.to_thread.run_sync(partial(service.fail_over, follow=True))
        await diary.until(lambda: diary.failures)
        assert diary.failures[0].failure.error_type == error_type
        await diary.until(lambda: isinstance(diary.attempts[-1], ProbeSucceeded))
        assert diary.stages == [], "one more attempt was enough to find the other"
        # A service that writes with a connection made now reaches the same server.
        client = redis.Redis(port=service.port())
        client.set("written", "1")
        client.close()


@pytest.mark.parametrize("service", ["a name"], indirect=True)
async def test_while_the_name_still_points_at_it_the_probe_asks_again_at_its_pace(
    service: Service,
) -> None:
    probe = RedisProbe(service.url, expect=Expect(role="master"))
    policy = Policy(probe_interval_seconds=0.2)
    async with watched(probe, policy) as (_, diary):
        before = connections(service.first)
        await anyio.to_thread.run_sync(partial(service.fail_over, follow=False))
        fell = await diary.reaches(Stage.DEGRADED)
        follows_at = fell.at + 2
        await diary.until(lambda: diary.facts[-1].at >= follows_at, timeout_seconds=30)
        assert diary.stages == [Stage.DEGRADED]
        waited = diary.facts[-1].at - fell.at
        failures = len(diary.failures)
        opened = connections(service.first) - before
        # Each failed attempt but the first opened one connection; none opened more.
        assert failures - 2 <= opened <= failures
        assert opened <= 12 + waited / 0.15, "the ramp, and then the steady step"
        service.follow()
        await diary.until(lambda: Stage.READY in diary.stages, timeout_seconds=30)


@pytest.mark.parametrize("service", ["a proxy"], indirect=True)
async def test_without_that_expectation_a_demoted_server_goes_on_being_good_enough(
    service: Service,
) -> None:
    async with watched(RedisProbe(service.url), PACE) as (_, diary):
        await anyio.to_thread.run_sync(partial(service.fail_over, follow=True))
        diary.forget()
        await diary.until(lambda: len(diary.attempts) >= 5)
        assert not diary.failures
        assert diary.stages == []
