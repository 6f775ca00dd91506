"""What env files, templates and shells leave of a URL: each probe says that, and not its syntax."""

from collections.abc import Callable

import pytest

from orchestrator.checks import amqp, from_url, grpc, http, kafka, postgres
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings, SettingsError

MAKERS: list[tuple[Callable[[str], object], str]] = [
    (postgres, "postgresql://app:hunter2@db/orders"),
    (amqp, "amqp://app:hunter2@rabbit/orders"),
    (http, "http://billing:hunter2/health"),
    (kafka, "kafka-1:hunter2"),
    (grpc, "users:hunter2"),
    (RedisProbe, "redis://:hunter2@redis:6379"),
    (from_url, "tcp://db:hunter2"),
]
MISTAKES = [
    ("", "is empty: is the variable"),
    (" \n", "is empty: is the variable"),
    ('"{}"', "has quotes around it"),
    ("'{}'", "has quotes around it"),
    ('"{}"\n', "has quotes around it"),
    ("${{DATABASE_URL}}", "was to be filled in"),
]


@pytest.mark.parametrize(("make", "url"), MAKERS, ids=lambda made: getattr(made, "__name__", ""))
def test_the_error_names_what_was_left_of_it(
    make: Callable[[str], object], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    for written, said in MISTAKES:
        with pytest.raises(ValueError, match=said) as refused:
            make(written.format(url))
        assert "hunter2" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_line_end_around_a_url_is_named_where_it_does_harm() -> None:
    for make, url in ((http, "http://billing/\n"), (amqp, " amqp://rabbit"), (grpc, "users:1 ")):
        with pytest.raises(ValueError, match="has spaces or a line end around it"):
            make(url)


def test_an_empty_dsn_is_meant_where_the_environment_says_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "db.internal")
    assert postgres("").target.address == "db.internal"
    monkeypatch.setenv("PGHOST", "")
    with pytest.raises(ValueError, match="write postgresql://"):
        postgres("")
    assert postgres("postgresql://").target.address


def test_a_variable_in_quotes_is_named() -> None:
    for variable in ("REDIS_URL", "ORCHESTRATOR_CHECKS"):
        with pytest.raises(SettingsError, match=f"{variable}.* has quotes around it"):
            Settings.from_environment({variable: '"redis://:hunter2@redis"'})
