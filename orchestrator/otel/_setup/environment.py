"""The variables of the OpenTelemetry SDK that decide how signals are sent.

The specification has a signal's own variable go before the general one
(opentelemetry.io/docs/specs/otel/protocol/exporter). No value of any of them ends a start-up: it is
said which variable cannot be used, and the default holds. The value is not said: some are secrets.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from orchestrator._hardening.log_thread import logger

PROTOCOLS = {"http": "http", "http/protobuf": "http", "grpc": "grpc"}
"""What may be asked for, and which it is."""

_LEAST_SECRET = 4
"""Shorter texts are in many lines by chance."""


class Signal(StrEnum):
    """What is sent, as it is called in variables and paths."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"

    @property
    def exporter_variable(self) -> str:
        """What chooses the exporter of the signal."""
        return f"OTEL_{self.name}_EXPORTER"


def _given(name: str) -> str:
    return os.environ.get(name, "").strip()


def _otlp(signal: Signal, what: str) -> tuple[str, str]:
    """The variable that counts, and its value; empty where neither is set."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.name}_{what}", f"OTEL_EXPORTER_OTLP_{what}")
    name = next(filter(_given, names), names[1])
    return name, _given(name)


def is_disabled() -> bool:
    """Whether the SDK is switched off."""
    return _given("OTEL_SDK_DISABLED").lower() == "true"


def is_wanted(signal: Signal) -> bool:
    """Whether the signal is to be sent. By OTLP, since that is all that is set up here."""
    chosen = {name.strip().lower() for name in _given(signal.exporter_variable).split(",")}
    if chosen == {"none"}:
        return False
    if not chosen & {"", "otlp"}:
        name = signal.exporter_variable
        _warn(f"{name} names no exporter that is set up here (otlp, none): otlp is used")
    return True


def protocol_of(signal: Signal) -> str:
    """A key of `PROTOCOLS`. What the SDKs of other languages know is none."""
    name, given = _otlp(signal, "PROTOCOL")
    given = given.lower() or "http"
    if given in PROTOCOLS:
        return given
    _warn(f"{name} is none that Python's exporters speak: http/protobuf is used")
    return "http"


def timeout_of(signal: Signal, default: float) -> float:
    """How long one export with all its retries may take. Python's exporters count in seconds."""
    name, given = _otlp(signal, "TIMEOUT")
    return _number(name, given, default)


class Batching(NamedTuple):
    """The numbers of a batch processor."""

    most_waiting: int
    most_at_once: int
    delay_millis: float
    timeout_millis: float


def batching(kind: str, default_delay_millis: float) -> Batching:
    """The numbers of a batch processor, from the variables that begin with `OTEL_` and `kind`."""
    waiting = int(_variable(f"OTEL_{kind}_MAX_QUEUE_SIZE", 2048, least=1))
    at_once = int(_variable(f"OTEL_{kind}_MAX_EXPORT_BATCH_SIZE", 512, least=1))
    return Batching(
        waiting,
        min(at_once, waiting),  # as the SDK demands; who makes the queue shorter wants no error
        _variable(f"OTEL_{kind}_SCHEDULE_DELAY", default_delay_millis),
        _variable(f"OTEL_{kind}_EXPORT_TIMEOUT", 30_000),
    )


def export_times() -> tuple[float, float]:
    """How often metrics are sent, and how long that may take, in milliseconds."""
    interval_millis = _variable("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
    return interval_millis, _variable("OTEL_METRIC_EXPORT_TIMEOUT", 30_000)


def _variable(name: str, default: float, least: float = 0.0) -> float:
    return _number(name, _given(name), default, least)


def _number(name: str, given: str, default: float, least: float = 0.0) -> float:
    if not given:
        return default
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and number > 0 and number >= least:
        return number
    _warn(f"{name} is no number above 0: {default:g} is used")
    return default


@cache
def _warn(text: str) -> None:
    """Once: a general variable is read for each signal."""
    logger.warning("telemetry: %s", text)


# -- for messages ---------------------------------------------------------------------------------


def names_set() -> list[str]:
    """The variables of OpenTelemetry that are set."""
    return sorted(name for name in os.environ if name.startswith("OTEL_"))


def secrets(environ: Mapping[str, str], endpoint: str | None) -> list[str]:
    """What may be secret in endpoints and headers, the longest first."""
    found = set(_of_endpoint(endpoint or ""))
    for name, value in environ.items():
        if name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT"):
            found.update(_of_endpoint(value))
        elif name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("HEADERS"):
            found.update(_of_headers(value))
    return sorted(filter(lambda text: len(text) >= _LEAST_SECRET, found), key=len, reverse=True)


def _of_endpoint(endpoint: str) -> Iterator[str]:
    try:
        url = urlsplit(endpoint.strip())
    except ValueError:  # no URL: its parts have no meaning
        yield from set(re.split(r"[/?#@:&=\s]+", endpoint)) - {"http", "https"}
        return
    login, at, _ = url.netloc.rpartition("@")
    if at:
        yield login
        yield from (part for raw in login.split(":") for part in (raw, unquote(raw)))
    if url.query:
        yield url.query
        yield from (value for _, value in parse_qsl(url.query))
    yield url.fragment


def _of_headers(headers: str) -> Iterator[str]:
    for header in headers.split(","):
        name, equals, value = header.partition("=")
        raw = (value if equals else name).strip()
        yield raw
        yield unquote(raw)
