"""What a real client of redis-py says of a Redis, beside what the probe says of it."""

import asyncio
import functools
import gc
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.redis import RedisProbe

Kind: TypeAlias = Callable[..., Any]
"""A class of clients. Some of what is given to them is wrong on purpose."""

KINDS: tuple[Kind, ...] = (redis.Redis, redis.asyncio.Redis)
"""The two families of clients."""

BACKENDS = itertools.cycle(("asyncio", "trio"))
"""The greeting is a thread's, so that each case is tried on one of them only."""

_BY_URL: tuple[Kind, ...] = (redis.Redis.from_url, redis.asyncio.Redis.from_url)


@dataclass(frozen=True)
class Verdicts:
    """What was said of one configuration.

    Attributes:
        what: The configuration.
        client: What the client raised; empty for a client that works.
        probe: `ready`, `refused` when it was made, or kind, `error_type` and reason.
    """

    what: str
    client: str
    probe: str

    @property
    def agree(self) -> bool:
        """Whether the probe says that Redis answers where the client works, and only there."""
        return (self.client == "") == (self.probe == "ready")


def no_retry() -> Retry:
    """What keeps a client from asking again and again, which changes no verdict."""
    return Retry(NoBackoff(), 0)


def by_options(backend: str, options: Mapping[str, Any], **places: object) -> Iterator[Verdicts]:
    """Ask with clients of both families, and with probes made from them."""
    for kind in KINDS:
        made = functools.partial(kind, **places, **options, retry=no_retry())
        yield by_client(backend, made, f"{kind.__module__} {dict(options)}")


def by_client(backend: str, make: Callable[[], Any], what: str) -> Verdicts:
    """Ask with a client, and with a probe made from it."""
    client = said_by_client(make)
    return Verdicts(what, client, said_by_probe_of(backend, make))


def by_url(backend: str, url: str) -> Verdicts:
    """Ask with clients of both families and with a probe, all made from a URL.

    The probe cannot know which family the application uses: a URL that one of them takes is good.
    """
    said = [said_by_client(functools.partial(made, url, retry=no_retry())) for made in _BY_URL]
    client = "" if "" in said else said[0]
    return Verdicts(url, client, said_by_probe(backend, lambda: RedisProbe(url)))


def said_by_client(make: Callable[[], Any]) -> str:
    """What a client that is made by `make` raises at its first command; empty for none."""

    async def ask() -> None:
        client = make()
        try:
            answer = client.ping()
            if inspect.isawaitable(answer):
                await answer
        finally:
            closing = client.aclose() if hasattr(client, "aclose") else client.close()
            if inspect.isawaitable(closing):
                await closing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what redis-py thinks of its own options
        try:
            asyncio.run(ask())
        except Exception as error:  # whatever it is, no command works
            said = f"{type(error).__name__}: {error}"
        else:
            return ""
        gc.collect()  # what redis-py leaves behind then is not the probe's
        return said


def said_by_probe_of(backend: str, make: Callable[[], Any]) -> str:
    """What a probe says that is made from the client that `make` makes."""
    return said_by_probe(backend, lambda: RedisProbe.from_client(make()))


def said_by_probe(backend: str, make: Callable[[], RedisProbe]) -> str:
    """What the probe that is made by `make` says, whichever way."""

    async def ask() -> str:
        probe = make()
        failure = (await probe.attempt(10)).failure
        await probe.aclose()
        return f"{failure.kind} {failure.error_type}: {failure.reason}" if failure else "ready"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return anyio.run(ask, backend=backend)
        except ValueError as error:
            return f"refused: {error}"
