"""`ORCHESTRATOR_CHECKS`: what is asked, named in the environment."""

import pytest

from orchestrator import Check, Orchestrator, Stage, Task
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings, SettingsError

CHECKS, OPTIONAL = "ORCHESTRATOR_CHECKS", "ORCHESTRATOR_OPTIONAL_CHECKS"


def names(text: str) -> list[str]:
    return [check.name for check in Settings.from_environment({CHECKS: text}).checks]


def test_names_are_derived_and_unique_and_show_no_secret() -> None:
    assert names(
        "tcp://a:1 tcp://a:1  http://u:hunter2@b/hunter2?k=hunter2\n https://[::1]/ file:///run/x"
        " redis://:hunter2@c/2 unix:///run/r.sock postgres:///app?host=/run/postgresql"
        " postgresql+asyncpg://u:hunter2@d:5,e/app amqp://u:hunter2@f/v amqps://a;amqps://b"
    ) == [
        *("tcp:a:1", "tcp:a:1-2", "http:b:80", "https:[::1]:443", "file:x"),
        *("redis:c:6379", "unix:r.sock", "postgresql:5432", "postgresql:d:5"),
        *("amqp:f:5672", "amqps:a:5671"),
    ]


def test_a_name_may_be_given() -> None:
    assert names("database=tcp://db:5432 http://x/?a=tcp://y:1") == ["database", "http:x:80"]
    # What is derived keeps out of the way of what is given.
    assert names("tcp:a:1=tcp://b:1 tcp://a:1") == ["tcp:a:1", "tcp:a:1-2"]


def test_without_the_variables_there_are_none() -> None:
    assert Settings.from_environment({CHECKS: " ", OPTIONAL: ""}).checks == ()


def test_required_and_optional_ones_take_their_numbers_from_the_policy() -> None:
    environ = {
        CHECKS: "tcp://a:1",
        OPTIONAL: "tcp://b:1",
        "ORCHESTRATOR_ATTEMPT_TIMEOUT_SECONDS": "2.5",
        "ORCHESTRATOR_FAILURES_TO_DEGRADE": "7",
    }
    needed, other = Settings.from_environment(environ).checks
    assert (needed.required, other.required) == (True, False)
    assert isinstance(needed, Check)
    assert needed.policy.attempt_timeout_seconds == 2.5
    assert needed.policy.failures_to_degrade == 7
    assert isinstance(needed.probe.target.address, str)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tcp://a:1 kafkaesque://u:hunter2@b", r", URL 2 \(kafkaesque://\): nothing here can ask"),
        ("hunter2", ", URL 1: it does not begin with a scheme; .*redis://"),
        ("http://a/,http://hunter2/", r"URL 1 \(http://\): it looks like several; put spaces"),
        ("db=postgres://a/d,b=redis://:hunter2", "it looks like several"),
        ("tcp://a:1;tcp://hunter2:2", "it looks like several"),
        ("x=tcp://a:1 x=tcp://b:2", "URL 2 .*the name 'x' is there already"),
        ("redis=tcp://a:1", "the name 'redis' is that of the main probe"),
        ("redis://h/hunter2", r"URL 1 \(redis://\): the Redis URL's path must be"),
        ("redis://h?nonsense=hunter2", r"URL 1 \(redis://\)"),
    ],
)
def test_a_bad_url_is_one_line_that_says_which(text: str, says: str) -> None:
    for variable in (CHECKS, OPTIONAL):
        with pytest.raises(SettingsError, match=f"^{variable}.*{says}") as refused:
            Settings.from_environment({variable: text})
        assert refused.value.variable == variable
        assert "hunter2" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_no_repr_shows_a_url() -> None:
    settings = Settings.from_environment({CHECKS: "http://u:hunter2@b/hunter2"})
    assert "hunter2" not in repr(settings) + repr(settings.checks)
    assert "checks=['http:b:80']" in repr(settings)


def test_the_rollback_keeps_the_names_of_what_cannot_be_used() -> None:
    environ = {
        "ORCHESTRATOR_ENABLED": "false",
        CHECKS: "database=nonsense://x tcp://a:1 http://[ x=tcp://a:b",
        OPTIONAL: "x=tcp://b:2",
    }
    checks = Settings.from_environment(environ).checks
    assert [check.name for check in checks] == ["database", "tcp:a:1", "x"]


@pytest.mark.anyio
async def test_an_application_comes_after_them_and_the_rollback_still_works() -> None:
    async def work() -> None: ...

    for environ in ({}, {"ORCHESTRATOR_ENABLED": "false"}):
        settings = Settings.from_environment({CHECKS: "database=tcp://127.0.0.1:1", **environ})
        startup = Orchestrator(
            RedisProbe("redis://127.0.0.1:1"),
            conditions=[*settings.checks, Task("work", work, after=["database"])],
            enabled=settings.enabled,
        )
        async with startup:
            if not settings.enabled:
                await startup.wait_for(Stage.READY, timeout_seconds=30)
