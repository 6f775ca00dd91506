"""Checks as a list of URLs, for variables and for the command line.

A list has spaces or line ends between its items, since a URL has neither; Kafka's and PostgreSQL's
have commas. Each item is a URL, or `NAME=URL`. This room lies above those of the probes, so that
there is one place that knows all of them.
"""

import re
from collections.abc import Callable, Iterable

from orchestrator import Check, ConditionSpec
from orchestrator._hardening.text import MOST_NAME_CHARACTERS, bracketed, one_line
from orchestrator._ports import Probe, Target
from orchestrator.checks import from_url
from orchestrator.checks._from_url import SCHEMES, scheme_of, unknown
from orchestrator.redis import RedisProbe
from states import Policy

_REDIS = ("redis", "rediss", "unix")
KNOWN_SCHEMES = tuple(f"{scheme}://" for scheme in (*SCHEMES, *_REDIS))

_NAMED = re.compile(r"([\w.:-]{1,100})=(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_JOINED = re.compile(r"[,;]([\w.:-]{1,100}=|(?!(py)?amqps?:))[a-z][a-z0-9+.-]*://", re.IGNORECASE)
"""Two items without a space between them; brokers of one AMQP URL have `;` there."""
_RESERVED = "redis"
"""The name of the orchestrator's own probe, in `after` and in health checks."""

_SHARED = ("failures_to_degrade", "permanent_retry_seconds")


class CheckListError(ValueError):
    """A list of checks that cannot be used. The text says which item; it holds no URL."""


def probe_of(url: str) -> Probe:
    """The probe of a URL, that of a Redis included.

    Raises:
        ValueError: When it cannot be asked. The text holds nothing of the URL but its scheme.
    """
    scheme = scheme_of(url)
    if scheme in _REDIS:
        return RedisProbe(url)
    if scheme not in SCHEMES:
        raise unknown(url, KNOWN_SCHEMES)
    return from_url(url)


class CheckList:
    """Makes the checks of one orchestrator, each with a name of its own.

    Args:
        policy: Says how long an attempt may take, and how many failures there must be.
        wrap: Put around each probe, for whoever wants to see its attempts.
        lenient: Leave out what cannot be used; where it has a name, keep that, since something may
            come after it.
    """

    def __init__(
        self,
        policy: Policy,
        wrap: Callable[[str, Probe], Probe] | None = None,
        *,
        lenient: bool = False,
    ) -> None:
        self._policy = policy
        self._lenient = lenient
        self._wrap = wrap or (lambda _, probe: probe)
        self._names: set[str] = set()

    def add(
        self, items: Iterable[str], source: str, *, required: bool = True
    ) -> list[ConditionSpec]:
        """The checks of these items.

        Args:
            items: URLs, each with its name before it or without.
            source: Where they are from, such as the name of a variable, for errors.
            required: Whether ready needs them.

        Raises:
            CheckListError: When one cannot be used.
        """
        made: list[ConditionSpec] = []
        for number, item in enumerate(items, 1):
            name, url = _split(item)
            scheme = f" ({scheme_of(url)}://)" if scheme_of(url) else ""
            try:
                made.append(self._check(name, url, required))
            except ValueError as error:
                if not self._lenient:
                    raise CheckListError(f"{source}, URL {number}{scheme}: {error}") from None
                if name and name not in self._names:
                    self._names.add(name)
                    made.append(ConditionSpec(name, required))
        return made

    def _check(self, name: str, url: str, required: bool) -> Check:
        if not url:
            raise ValueError("it is empty; is a variable not set?")
        if _JOINED.search(url):
            raise ValueError("it looks like several; put spaces between them")
        probe = probe_of(url)
        if name == _RESERVED:
            raise ValueError(f"the name {_RESERVED!r} is that of the main probe; give another one")
        if name in self._names:
            raise ValueError(f"the name {name!r} is there already; give each its own")
        name = name or self._free(_short_name(scheme_of(url), probe.target))
        self._names.add(name)
        policy = self._policy
        numbers = {field: getattr(policy, field) for field in _SHARED}
        wrapped = self._wrap(name, probe)
        return Check(
            name,
            wrapped,
            required=required,
            timeout_seconds=policy.attempt_timeout_seconds,
            **numbers,
        )

    def _free(self, name: str) -> str:
        number, found = 1, name
        while found in self._names:
            number += 1
            found = f"{name}-{number}"
        return found


def _split(item: str) -> tuple[str, str]:
    """The name, empty for none, and the URL."""
    item = item.strip()
    found = _NAMED.match(item)
    return (found[1], item[found.end() :]) if found else ("", item)


def _short_name(scheme: str, target: Target) -> str:
    """A name for what is asked: scheme, host and port; of a file, its name."""
    where = bracketed(target.address)
    if target.port is not None:
        where += f":{target.port}"
    elif "/" in where:
        where = where.rpartition("/")[2].removeprefix(".s.PGSQL.")
    return one_line(f"{scheme}:{where}" if where else scheme, MOST_NAME_CHARACTERS - 5)
