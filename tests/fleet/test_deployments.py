"""Publishing to a cluster, and to a Redis that ends connections."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from orchestrator.fleet import _publisher
from tests.faults.scenes import wait_until
from tests.fleet.published import KEYS, admin, publishing, told
from tests.redis_server import RedisServer, free_port

HALF = 16384 // 2


@contextmanager
def cluster() -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two nodes: the one that has the slot of the service, and one that has not."""
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    with ExitStack() as stack:
        buses = [free_port() for _ in range(2)]
        nodes = [
            stack.enter_context(RedisServer(None, *options, "--cluster-port", str(bus)))
            for bus in buses
        ]
        first, second = asked = [stack.enter_context(client_of(node)) for node in nodes]
        slot = int(first("CLUSTER", "KEYSLOT", KEYS.events))
        second("CLUSTER", "SET-CONFIG-EPOCH", "2")
        for number, ask in enumerate(asked):
            ask("CLUSTER", "ADDSLOTS", *map(str, range(number * HALF, number * HALF + HALF)))
        second("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port), str(buses[0]))
        for ask in asked:
            wait_until(partial(is_whole, ask), 60)
        yield (nodes[0], nodes[1]) if slot < HALF else (nodes[1], nodes[0])


def is_whole(ask: Callable[..., Any]) -> bool:
    """Whether the node knows the other, and takes the cluster for well."""
    said = ask("CLUSTER", "INFO")
    return "cluster_state:ok" in said and "cluster_slots_ok:16384" in said


@contextmanager
def client_of(node: RedisServer) -> Iterator[Callable[..., Any]]:
    with admin(node) as client:
        yield client.execute_command


def test_any_node_of_a_cluster_leads_to_the_one_that_has_the_keys() -> None:
    with cluster() as (owner, other), admin(owner) as client:
        for node, connects in ((owner, 1), (other, 2)):
            client.flushall()
            with publishing(node.url) as one:
                one.change(3)
                one.until_told()
                assert told(client) == [1, 2, 3]
                assert one.publisher.connects == connects


def test_a_redis_that_ends_idle_connections_gets_every_beat(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_publisher, "_BEAT_SECONDS", 0.2)
    with RedisServer() as server, admin(server) as client, publishing(server.url) as one:
        one.change()
        one.until_told()
        for number in range(2, 5):
            client.client_kill_filter(_type="normal", skipme=True)
            one.change()
            one.until_told()
            assert one.publisher.connects == number
        assert told(client) == [1, 2, 3, 4]
        assert one.publisher.said == set()
        assert caplog.text == ""
