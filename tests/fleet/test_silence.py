"""A long silence, and scripts that Redis forgets: nothing breaks, and each change arrives once."""

from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis
import redis.asyncio

from orchestrator.fleet import Change, Contact, Fleet, FleetView, Missed, follow
from tests.fleet.published import admin, publishing, told
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

_CLIENT = {"socket_timeout": 0.2, "decode_responses": True, "protocol": 3}
_MOST_SECONDS = 30.0


async def changes_of(fleet: FleetView, count: int) -> list[int]:
    """The next changes; nothing else may come between them."""
    found: list[int] = []
    with anyio.fail_after(_MOST_SECONDS):
        async for one in fleet:
            assert not isinstance(one, Missed | Contact)
            found += [one.changed.sequence] if isinstance(one, Change) else []
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("program", EACH_PROGRAM)
@pytest.mark.parametrize("family", ["sync", "asyncio"])
async def test_no_limit_of_a_client_ends_a_silence_and_forgotten_scripts_are_given_again(
    program: str, family: str
) -> None:
    await stay_silent(program, family, 3.0)


@pytest.mark.long
async def test_the_same_is_so_after_a_minute() -> None:
    await stay_silent(next(iter(PROGRAMS)), "sync", 60.0)


async def stay_silent(program: str, family: str, seconds: float) -> None:
    module: Any = redis if family == "sync" else redis.asyncio
    with RedisServer(binary=PROGRAMS[program]) as server, admin(server) as client:
        fleet = Fleet.from_client(module.Redis(port=server.port, **_CLIENT), service="chat")
        with publishing(fleet._settings) as one:
            one.change()
            await anyio.to_thread.run_sync(one.until_told)
            url = f"{server.url}?socket_timeout=0.5"
            async with follow(url, service="chat") as seen:
                before = client.info("stats")["total_connections_received"]
                await anyio.sleep(seconds)
                one.change()
                assert await changes_of(seen, 1) == [2]
                client.script_flush()
                one.change()
                assert await changes_of(seen, 1) == [3]
                await anyio.sleep(3.0)  # a beat with a script that was forgotten, and one more
                assert client.info("stats")["total_connections_received"] == before
                assert (seen.repeated, seen.missed, seen.unreadable) == (0, 0, 0)
        assert told(client) == [1, 2, 3]
        assert one.publisher.connects == 1
        assert one.publisher.said == set()
