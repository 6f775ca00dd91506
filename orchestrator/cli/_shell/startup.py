"""The start-up that `wait` and `run` go through, made from the environment and the command line."""

import importlib
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import replace

from orchestrator import FailureKind, PolicyError, ProbeFailed, StageChanged
from orchestrator.cli._shell.errors import UserError
from orchestrator.redis import RedisProbe
from orchestrator.redis._plain_options import is_plain
from orchestrator.redis._url import settings_of_url
from orchestrator.settings import PREFIX, Settings, SettingsError

_SHARE_OF_ONE_ATTEMPT = 0.8
"""How much of `--timeout` one attempt may take at most."""


def settings_for(
    redis_url: str | None, timeout_seconds: float | None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of the environment, with what the command line says instead.

    Raises:
        UserError: When any of it cannot be used.
    """
    if redis_url == "":
        # Most likely a shell's variable that is not set: another Redis would be waited for.
        raise UserError("--redis is empty; without it REDIS_URL and ORCHESTRATOR_REDIS_URL count")
    if redis_url is not None:  # then a variable that cannot be used does no harm
        environ = {
            name: value
            for name, value in environ.items()
            if name not in (f"{PREFIX}REDIS_URL", "REDIS_URL")
        }
    try:
        settings = Settings.from_environment(environ)
    except SettingsError as error:
        raise UserError(str(error)) from None
    settings = replace(settings, redis_url=redis_url or settings.redis_url)
    if timeout_seconds is None:
        return settings
    policy = settings.policy
    try:
        # A short time must not be refused because one attempt, or the grace, could be longer. And
        # one attempt should end in it: else there would be nothing to say of why it was not enough.
        policy = replace(
            policy,
            budget_seconds=timeout_seconds,
            attempt_timeout_seconds=min(
                policy.attempt_timeout_seconds, _SHARE_OF_ONE_ATTEMPT * timeout_seconds
            ),
            grace_seconds=min(policy.grace_seconds, timeout_seconds),
        )
    except PolicyError as error:
        raise UserError(f"--timeout is {timeout_seconds:g}; it must be {error.allowed}") from None
    return replace(settings, policy=policy)


def probe_for(redis_url: str, given_as: str) -> RedisProbe:
    """A probe of the Redis at a URL, which was given as an option or a variable of that name.

    Raises:
        UserError: When the URL cannot be used. Its text shows nothing of it.
    """
    try:
        return RedisProbe(redis_url)
    except ValueError as error:
        raise UserError(f"{given_as}: {error}") from None


def is_permanent(event: StageChanged) -> bool:
    """Whether a service became degraded by a failure that does not go away by waiting."""
    cause = event.cause
    return isinstance(cause, ProbeFailed) and cause.failure.kind is FailureKind.PERMANENT


def silence_log() -> None:
    """What the library logs is shown by the commands in their own words."""
    logging.getLogger("orchestrator").addHandler(logging.NullHandler())


def load_redis_beside(redis_url: str) -> None:
    """Import redis-py while Redis is being waited for, if the probe of this URL needs it.

    The probe loads it only once a server accepts, and it takes about as long as all else here:
    without this, a Redis that comes late would be noticed later by that time.
    """
    if is_plain(settings_of_url(redis_url)):
        return

    def load() -> None:
        # If it cannot be imported, the probe says so in its own words.
        try:
            importlib.import_module("orchestrator.redis._redis_py_connections")
        except Exception:  # whatever it is, it is the probe's to report
            return

    threading.Thread(target=load, name="import redis", daemon=True).start()
