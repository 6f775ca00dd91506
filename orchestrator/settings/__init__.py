"""Settings from environment variables, and platform detection."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Literal, Self

from orchestrator import ConditionSpec
from orchestrator._hardening.log_thread import logger
from orchestrator._hardening.text import mistake_in, one_line
from states import Platform, Policy, PolicyError
from states._records import keyword_record

PREFIX = "ORCHESTRATOR_"
"""What the names of all variables begin with."""

DEFAULT_REDIS_URL = "redis://localhost:6379/0"
"""Where Redis is if no variable says it."""

CHECK_VARIABLES = (PREFIX + "CHECKS", PREFIX + "OPTIONAL_CHECKS")
"""What is asked besides: URLs with spaces between them, each with its name before it, as in
`database=postgresql://db/app`, or without. Ready needs those of the first."""

# Kubernetes sets these for each Service of the namespace, here one whose name begins with
# "orchestrator"; so do links of Docker. See "Environment variables" in Kubernetes' documentation of
# Services.
_OF_A_SERVICE = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
    re.ASCII,
)

OF_AUTO = ("APP", "IMPORT", "HOLD_SECONDS", "MAX_HELD", "HEALTH_DETAILS", "PAGE", "POD", "FLEET")
"""What `orchestrator.auto` alone reads."""

_OF_OTHERS = ("POD_DIR", "NOTIFY_SOCKET", "FLEET_SERVICE", "FLEET_INSTANCE", "FLEET_VERSION")
"""What `Pod` and `Fleet` read, and what `run` sets for its child."""

_SCHEMES = ("redis://", "rediss://", "unix://")
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_HARMLESS = re.compile(r"[\w.+ -]{0,40}")
"""What is surely no URL, and can be shown in an error."""

# The first that is set decides. Functions set K_SERVICE too, so they come before it; and so does
# Knative, which is no Google Cloud, on a Kubernetes of its own.
_SIGNS = (
    ("KUBERNETES_SERVICE_HOST", Platform.KUBERNETES),
    ("CLOUD_RUN_JOB", Platform.CLOUD_RUN_JOB),
    ("CLOUD_RUN_WORKER_POOL", Platform.CLOUD_RUN_WORKER_POOL),
    ("FUNCTION_TARGET", Platform.CLOUD_FUNCTIONS),
    ("GAE_SERVICE", Platform.APP_ENGINE),  # both environments; GAE_ENV is the standard one's alone
    ("GAE_ENV", Platform.APP_ENGINE),
    ("K_SERVICE", Platform.CLOUD_RUN),
)


class SettingsError(ValueError):
    """A variable that cannot be used. The text says which, its value if harmless, what is allowed.

    Attributes:
        variable: The name of the environment variable.
    """

    def __init__(
        self, variable: str, value: object, allowed: str, whose: str = "", *, text: str = ""
    ) -> None:
        shown = repr(value) if _HARMLESS.fullmatch(str(value)) else "set to something else"
        super().__init__(text or f"{variable} is {shown}{whose}; it must be {allowed}")
        self.variable = variable


@keyword_record
class Settings:
    """What a service's environment says about its start-up.

    Attributes:
        policy: Thresholds and durations, with the platform's defaults.
        redis_url: Where Redis is. It may hold a password, so it is left out of `repr`.
        enabled: False is the rollback: nothing is probed and every client is admitted.
        checks: What `ORCHESTRATOR_CHECKS` names, for `conditions=[*settings.checks, ...]`.
    """

    policy: Policy
    redis_url: str
    enabled: bool = True
    checks: tuple[ConditionSpec, ...] = ()

    def __repr__(self) -> str:
        checks = [check.name for check in self.checks]
        return (
            f"Settings(policy={self.policy!r}, redis_url=<hidden>, enabled={self.enabled},"
            f" checks={checks})"
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings. A variable that is set but empty counts as not set.

        `ORCHESTRATOR_<FIELD>` sets a field of `Policy`, `ORCHESTRATOR_REDIS_URL` (else `REDIS_URL`)
        says where Redis is, `ORCHESTRATOR_CHECKS` and `ORCHESTRATOR_OPTIONAL_CHECKS` what else is
        asked, `ORCHESTRATOR_PLATFORM` overrides the platform that is detected, and
        `ORCHESTRATOR_ENABLED=false` is the rollback: then no other value can be wrong.

        Raises:
            SettingsError: When a variable's value cannot be used.
        """
        if not _flag(environ, "ENABLED", default=True):
            # The rollback must work whatever else is wrong. The application may still need Redis.
            try:
                url = _redis_url(environ)
            except SettingsError:
                url = DEFAULT_REDIS_URL
            checks = checks_of(environ, Policy(), lenient=True)
            return cls(policy=Policy(), redis_url=url, enabled=False, checks=checks)
        platform = detect_platform(environ)
        values: dict[str, Any] = {}  # each field is checked when the policy is built
        for field in fields(Policy):
            text = environ.get(PREFIX + field.name.upper(), "").strip()
            if text and field.name != "platform":
                whole = isinstance(field.default, int)
                allowed = str(field.metadata["allowed"])
                values[field.name] = _number(PREFIX + field.name.upper(), text, allowed, whole)
        try:
            policy = Policy.for_platform(platform, **values)
        except PolicyError as error:
            variable = PREFIX + error.field.upper()
            allowed = re.sub(r"\b[a-z_]+_seconds\b", lambda m: PREFIX + m[0].upper(), error.allowed)
            whose = "" if environ.get(variable, "").strip() else " by default"
            raise SettingsError(variable, error.value, allowed, whose) from None
        _warn_of_misspellings(environ)
        checks = checks_of(environ, policy)
        return cls(policy=policy, redis_url=_redis_url(environ), checks=checks)


@keyword_record
class AutoSettings:
    """What `orchestrator.auto` reads from the environment besides `Settings`.

    Attributes:
        app: Where the application is, such as `chat:app`.
        import_on: `thread` or `loop`: where it is imported.
        hold_seconds: How long a request may wait.
        max_held: How many may wait at once.
        health_details: Whether health endpoints tell what the service waits for.
        page: The path of the status page; empty for none.
        pod: Whether the workers of one server answer health checks as one.
        has_redis: Whether a variable says where Redis is.
        fleet: Whether the instance is published in that Redis for its fleet to be seen.
    """

    app: str
    import_on: Literal["thread", "loop"] = "thread"
    hold_seconds: float = 20.0
    max_held: int = 256
    health_details: bool = False
    page: str = ""
    pod: bool = True
    has_redis: bool = True
    fleet: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read them; see the reference of settings. What is set but empty counts as not set.

        Raises:
            SettingsError: When there is no `ORCHESTRATOR_APP`, or a value cannot be used.
        """
        app, where, page = (_text(environ, name) for name in ("APP", "IMPORT", "PAGE"))
        if not app:
            raise SettingsError(PREFIX + "APP", "", "the application, such as chat:app")
        if where not in ("", "thread", "loop"):
            raise SettingsError(PREFIX + "IMPORT", where, "thread or loop")
        if page and (not page.startswith("/") or page == "/"):
            raise SettingsError(PREFIX + "PAGE", page, "a path, such as /startup")
        return cls(
            app=app,
            import_on="loop" if where == "loop" else "thread",
            hold_seconds=_at_least_zero(environ, "HOLD_SECONDS", 20.0),
            max_held=int(_at_least_zero(environ, "MAX_HELD", 256)),
            health_details=_flag(environ, "HEALTH_DETAILS", default=False),
            page=page,
            pod=_flag(environ, "POD", default=True),
            has_redis=bool(_text(environ, "REDIS_URL") or environ.get("REDIS_URL", "").strip()),
            fleet=_flag(environ, "FLEET", default=False),
        )


def _text(environ: Mapping[str, str], name: str) -> str:
    return environ.get(PREFIX + name, "").strip()


def _at_least_zero(environ: Mapping[str, str], name: str, default: float) -> float:
    whole = isinstance(default, int)
    allowed = f"a {'whole ' * whole}number of 0 or more"
    text = _text(environ, name)
    number = _number(PREFIX + name, text, allowed, whole) if text else default
    if not 0 <= number < math.inf:
        raise SettingsError(PREFIX + name, number, allowed)
    return number


def detect_platform(environ: Mapping[str, str] = os.environ) -> Platform:
    """Where the service runs, from the environment alone; nothing is asked over the network.

    Raises:
        SettingsError: When `ORCHESTRATOR_PLATFORM` names no platform.
    """
    variable = PREFIX + "PLATFORM"
    if text := environ.get(variable, "").strip():
        try:
            return Platform(text.lower().replace("-", "_"))
        except ValueError:
            raise SettingsError(variable, text, "one of " + ", ".join(Platform)) from None
    sign = platform_sign(environ)
    return dict(_SIGNS)[sign] if sign else Platform.OTHER


def platform_sign(environ: Mapping[str, str] = os.environ) -> str:
    """The variable by which the platform is detected; empty for none."""
    return next((sign for sign, _ in _SIGNS if environ.get(sign)), "")


def _number(variable: str, text: str, allowed: str, whole: bool) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise SettingsError(variable, text, allowed) from None


def _redis_url(environ: Mapping[str, str]) -> str:
    for variable in (PREFIX + "REDIS_URL", "REDIS_URL"):
        if url := environ.get(variable, "").strip():
            if not url.startswith(_SCHEMES):
                is_wrong = mistake_in(url, "is set to something else")  # never what: it is secret
                text = f"{variable} {is_wrong}; it must be a URL that begins with "
                raise SettingsError(variable, None, "", text=text + ", ".join(_SCHEMES))
            return url
    return DEFAULT_REDIS_URL


def checks_of(
    environ: Mapping[str, str], policy: Policy, *, lenient: bool = False
) -> tuple[ConditionSpec, ...]:
    """What the variables for checks name.

    Args:
        environ: Where the variables are.
        policy: Says how long an attempt may take, and how many failures there must be.
        lenient: Leave out what cannot be used.

    Raises:
        SettingsError: When a URL cannot be used.
    """
    if not any(environ.get(variable, "").strip() for variable in CHECK_VARIABLES):
        return ()
    from orchestrator.settings._check_list import CheckList, CheckListError  # it loads probes

    checks, made = CheckList(policy, lenient=lenient), list[ConditionSpec]()
    for variable in CHECK_VARIABLES:
        items = environ.get(variable, "").split()
        try:
            made += checks.add(items, variable, required=variable == CHECK_VARIABLES[0])
        except CheckListError as error:
            raise SettingsError(variable, None, "", text=str(error)) from None
    return tuple(made)


def _flag(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = _text(environ, name).lower()
    if text and text not in _TRUE | _FALSE:
        raise SettingsError(PREFIX + name, text, "true or false")
    return text in _TRUE if text else default


def _warn_of_misspellings(environ: Mapping[str, str]) -> None:
    known = [PREFIX + field.name.upper() for field in fields(Policy)]
    others = ("REDIS_URL", "ENABLED", *OF_AUTO, *_OF_OTHERS)
    known += [*(PREFIX + name for name in others), *CHECK_VARIABLES]
    for variable in environ:
        if not variable.startswith(PREFIX) or variable in known:
            continue
        if not _OF_A_SERVICE.fullmatch(variable.removeprefix(PREFIX)):
            close = get_close_matches(variable, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            logger.warning(
                "the variable %s is not known and has no effect%s", one_line(variable), hint
            )
