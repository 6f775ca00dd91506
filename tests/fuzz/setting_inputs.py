"""The environment, and the URLs of Redis."""

import contextlib
from dataclasses import fields
from urllib.parse import quote, unquote, urlsplit

import redis
from hypothesis import strategies as st

from orchestrator._runtime.platform_identity import platform_attributes
from orchestrator.redis import RedisProbe
from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._url import settings_of_url
from orchestrator.settings import CHECK_VARIABLES, PREFIX, Settings, SettingsError
from states import Policy
from tests.fuzz.subject import PLANTED, Lines, Subject, assert_hides, assert_is_a_line, listening

_VARIABLES = [PREFIX + field.name.upper() for field in fields(Policy)]
_VARIABLES += [f"{PREFIX}{name}" for name in ("REDIS_URL", "ENABLED", "PORT", "\x1b", "\udcff")]
_VARIABLES += [*CHECK_VARIABLES, CHECK_VARIABLES[0]]
_VARIABLES += [
    "REDIS_URL",
    "KUBERNETES_SERVICE_HOST",
    "CLOUD_RUN_JOB",
    "FUNCTION_TARGET",
    "GAE_ENV",
]
_VARIABLES += ["GAE_SERVICE", "GAE_VERSION", "K_SERVICE", "K_REVISION", "POD_NAME", "NODE_NAME"]
_VARIABLES += ["GOOGLE_CLOUD_PROJECT", "CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_EXECUTION"]
_VARIABLES += ["DEPLOYMENT_NAME"]

# What the system gives a process: bytes, of which those that are no UTF-8 become surrogates.
_from_the_system = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_texts = st.one_of(
    _from_the_system.map(lambda text: text.replace("\0", "")),
    st.sampled_from(
        ["", " ", "0", "1", "-1", "1e9", "1e999", "nan", "inf", "0.5", "1_0", "9" * 5000]
    ),
    st.sampled_from(["\u0663", "true", "False", "off", "cloud-run", "kubernetes", "\x1b[2J\n"]),
    st.sampled_from([f"redis://:{PLANTED}@host:6379/0", f"redis://:{PLANTED}@[::1"]),
    st.sampled_from([f"http://{PLANTED}@h", "redis://h:99999"]),
    st.sampled_from(
        [f"db=postgresql://u:{PLANTED}@h/{PLANTED}", f"amqp://u:{PLANTED}/@h file:///"]
    ),
    st.sampled_from([f"kafka://u:{PLANTED}@h?sasl={PLANTED}", f"grpc://[::1/{PLANTED} tcp://h:0"]),
    st.integers(-5, 300).map(str),
    st.floats(allow_nan=False).map(str),
)
environments: st.SearchStrategy[dict[str, str]] = st.dictionaries(
    st.sampled_from(_VARIABLES), _texts, max_size=6
)


def _read(lines: Lines, environ: dict[str, str]) -> None:
    try:
        settings = Settings.from_environment(environ)
    except SettingsError as error:
        assert_is_a_line(str(error))
        assert_hides(str(error))
    else:
        assert PLANTED not in repr(settings)
        assert settings.policy.budget_seconds > 0
        with contextlib.suppress(ValueError):
            RedisProbe(settings.redis_url)
    lines.check()
    for value in platform_attributes(environ).values():
        assert_is_a_line(str(value))


_parts = st.one_of(
    st.text(max_size=8),
    st.text("abc:@/?#[]%&=\n\x1b \u202e", max_size=8),
    st.sampled_from([PLANTED, "host", "::1", "[::1]", "6379", "0", "db=1", "protocol=3", "%zz"]),
)
_queries = st.lists(
    st.builds(
        lambda name, value: f"{name}={value}",
        st.one_of(
            st.sampled_from(["db", "protocol", "username", "password", "unknown"]),
            st.sampled_from(["ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs"]),
            st.sampled_from(["socket_timeout", "max_connections", "decode_responses"]),
        ),
        st.one_of(st.sampled_from(["0", "1", "2", "3", "", "none", "True", "abc"]), _parts),
    ),
    max_size=3,
).map("&".join)

_well_made = st.builds(
    lambda scheme, user, password, place, path, query: (
        f"{scheme}://{quote(user, '')}:{quote(password, '')}@{place}{path}{query and '?'}{query}"
    ),
    st.sampled_from(["redis", "rediss", "unix", "REDIS"]),
    st.one_of(st.just(""), st.text(max_size=6)),
    st.one_of(st.just(PLANTED), st.text(max_size=8)),
    st.builds(
        str.__add__,
        st.sampled_from(["host", "127.0.0.1", "[::1]", "", "a.b-c_d"]),
        st.sampled_from(["", ":1", ":6379", ":0", ":65535", ":65536", ":x", ":"]),
    ),
    st.sampled_from(["", "/", "/0", "/15", "/x", "/-1", "/0/1", "/run/redis.sock"]),
    _queries,
)
_mistyped = st.builds(
    lambda scheme, parts: scheme + "".join(parts),
    st.sampled_from(["redis://", "rediss://", "unix://", "unix:///", "redis:", "http://", ""]),
    st.lists(_parts, max_size=6),
)
urls: st.SearchStrategy[str] = st.one_of(_well_made, _mistyped)


def _take_apart(_: object, url: str) -> None:
    try:
        settings = settings_of_url(url)
    except ValueError as error:
        assert_is_a_line(str(error))
        assert_hides(str(error))
        return
    probe = RedisProbe(url)
    assert_is_a_line(probe.target.address)
    for text in (repr(settings), repr(probe), settings.where):
        assert_is_a_line(text, 2000)
    # A password where it belongs is never shown; one that was put into the host is one.
    if PLANTED in unquote(urlsplit(url).password or ""):
        for text in (repr(settings), repr(probe), probe.target.address):
            assert PLANTED not in text.replace(settings.host, "")
    _assert_goes_where_the_client_goes(url, settings)


def _assert_goes_where_the_client_goes(url: str, settings: RedisSettings) -> None:
    try:
        client = redis.Redis.from_url(url)
        client.connection_pool.make_connection()
    except Exception as error:
        raise AssertionError("the client refuses it, and the probe does not") from error
    made_with = client.connection_pool.connection_kwargs
    assert settings.path == made_with.get("path", "")
    if not settings.path:
        assert (settings.host, settings.port) == (
            made_with.get("host", "localhost"),
            made_with.get("port", 6379),
        )
    assert settings.db == int(made_with.get("db") or 0)


SUBJECTS = (
    Subject("the environment", environments, listening, _read),
    Subject("URLs of Redis", urls, contextlib.nullcontext, _take_apart),
)
