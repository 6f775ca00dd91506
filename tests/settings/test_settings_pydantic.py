"""Settings by way of pydantic-settings: the same as without, from more places."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator import Platform, Policy
from orchestrator.settings import PREFIX, Settings, SettingsError
from orchestrator.settings.pydantic import OrchestratorSettings

SIGNS = ["CLOUD_RUN_JOB", "FUNCTION_TARGET", "GAE_ENV", "K_SERVICE", "KUBERNETES_SERVICE_HOST"]
NUMBERS = [PREFIX + field.name.upper() for field in fields(Policy) if field.name != "platform"]

numbers = st.one_of(
    st.sampled_from(
        ["0", "1", "2.5", " 3 ", "1e2", "1_0", "-1", "nan", "inf", "1e400", "", " ", "x"]
    ),
    st.floats(allow_nan=False, min_value=0, max_value=100).map(str),
    st.integers(0, 100).map(str),
    st.text("0123456789.e_-+ \t٣true", max_size=8),
)
platforms = st.sampled_from([*Platform, "Cloud-Run", " other ", "mars", ""])
switches = st.sampled_from(["true", "1", "YES", "on", "false", "0", "No", "off", "", " ", "maybe"])
urls = st.sampled_from(
    ["redis://a", " rediss://b ", "unix:///c", "http://:hunter2@h", "hunter2", "", " "]
)
checks = st.sampled_from(
    ["a=tcp://h:1", "tcp://h:1 http://:hunter2@h/", "a=odd://:hunter2@h", "", " "]
)
environments = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(NUMBERS, numbers),
        **dict.fromkeys(SIGNS, st.sampled_from(["x", ""])),
        "ORCHESTRATOR_PLATFORM": platforms,
        "ORCHESTRATOR_ENABLED": switches,
        "ORCHESTRATOR_REDIS_URL": urls,
        "REDIS_URL": urls,
        "ORCHESTRATOR_CHECKS": checks,
        "ORCHESTRATOR_OPTIONAL_CHECKS": checks,
        "ORCHESTRATOR_BUDGET_SECOND": st.just("9"),
    },
)
# Most environments with many bad values end at the first: these have few.
small = st.lists(st.sampled_from(NUMBERS), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries(dict.fromkeys(names, numbers))
)


@contextmanager
def environment(environ: dict[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ, environ, clear=True):
        yield


def found(read: Callable[[], Settings]) -> Settings | tuple[str, str]:
    """What was read, or which variable cannot be used and what was said of it."""
    try:
        return read()
    except SettingsError as error:
        return error.variable, str(error)


@hypothesis_settings(max_examples=150, deadline=None)
@given(environments | small)
def test_the_same_environment_gives_the_same_settings_or_the_same_error(
    environ: dict[str, str],
) -> None:
    with environment(environ):
        here = found(lambda: OrchestratorSettings().settings)
        assert here == found(Settings.from_environment)
    if isinstance(here, tuple):
        assert "hunter2" not in here[1]
        assert "\n" not in here[1]


def test_there_is_one_list_of_fields() -> None:
    own = {"redis_url", "enabled", "shared_redis_url", "checks", "optional_checks"}
    assert {
        field.name for field in fields(Policy)
    } == OrchestratorSettings.model_fields.keys() - own
    for field in fields(Policy):
        theirs = OrchestratorSettings.model_fields[field.name]
        assert (theirs.annotation, theirs.default) == (field.type, field.default)
        assert theirs.description == field.metadata["why"]


def test_fields_say_what_is_in_force() -> None:
    with environment({"K_SERVICE": "chat", "ORCHESTRATOR_GRACE_SECONDS": "2"}):
        read = OrchestratorSettings()
    assert read.model_dump()["platform"] is Platform.CLOUD_RUN
    assert (read.model_dump()["budget_seconds"], read.model_dump()["grace_seconds"]) == (60.0, 2.0)


def test_an_env_file_and_what_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "ORCHESTRATOR_BUDGET_SECONDS=20\nORCHESTRATOR_GRACE_SECONDS=1\nREDIS_URL=redis://file\n"
        "ORCHESTRATOR_RETRY_JITTER=0.2\nOF_THE_APPLICATION=1\n"
    )
    with environment({"ORCHESTRATOR_GRACE_SECONDS": "2", "ORCHESTRATOR_RETRY_JITTER": ""}):
        settings = OrchestratorSettings(_env_file=file, stall_seconds=0.5).settings
    policy = Policy(budget_seconds=20, grace_seconds=2, retry_jitter=0.2, stall_seconds=0.5)
    assert settings == Settings(policy=policy, redis_url="redis://file")


@pytest.mark.parametrize("name", ["ORCHESTRATOR_REDIS_URL", "orchestrator_redis_url", "REDIS_URL"])
def test_a_directory_of_secrets(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("rediss://:hunter2@h\n")
    with environment({}):
        read = OrchestratorSettings(_secrets_dir=tmp_path)
    assert read.settings.redis_url == "rediss://:hunter2@h"
    assert "hunter2" not in repr(read) + str(read) + str(read.model_dump())


class Application(BaseSettings):
    model_config = SettingsConfigDict(env_nested_delimiter="__", extra="ignore")

    rooms: int = 3
    startup: OrchestratorSettings = Field(default_factory=OrchestratorSettings)


def test_inside_the_settings_of_an_application(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("ROOMS=5\nSTARTUP__GRACE_SECONDS=2\n")
    with environment({"ORCHESTRATOR_BUDGET_SECONDS": "20", "REDIS_URL": "redis://r"}):
        assert Application().startup.settings == Settings.from_environment()
        application = Application(_env_file=file)  # type: ignore[call-arg]  # pydantic's own
        given_whole = Application(startup=OrchestratorSettings(budget_seconds=9))
    policy = Policy(budget_seconds=20, grace_seconds=2)
    assert application.rooms == 5
    assert application.startup.settings == Settings(policy=policy, redis_url="redis://r")
    assert given_whole.startup.settings.policy.budget_seconds == 9


def test_no_error_shows_a_secret() -> None:
    for name in ("ORCHESTRATOR_REDIS_URL", "REDIS_URL", "ORCHESTRATOR_BUDGET_SECONDS"):
        line = rf"^{name} is set to something else; it must be [^\n]*$"
        with environment({name: "http://:hunter2@h"}):
            with pytest.raises(SettingsError, match=line) as alone:
                OrchestratorSettings()
            with pytest.raises(SettingsError, match=line) as inside:
                Application()
        for caught in (alone.value, inside.value):
            causes = (caught, caught.__cause__, caught.__context__)
            assert "hunter2" not in "".join(map(str, causes))


def test_nor_does_the_error_of_a_model_around_it() -> None:
    text = "ORCHESTRATOR_REDIS_URL is set to something else; it must be a URL"
    with (
        environment({"STARTUP__REDIS_URL": "http://:hunter2@h"}),
        pytest.raises(ValidationError, match=text) as caught,
    ):
        Application()
    assert "hunter2" not in f"{caught.value!r} {caught.value.errors()} {caught.value.json()}"


def test_other_errors_are_pydantics_own() -> None:
    class Larger(OrchestratorSettings):
        rooms: int = 3

    with environment({"ORCHESTRATOR_ROOMS": "many"}), pytest.raises(ValidationError, match="rooms"):
        Larger()
    with environment({"ORCHESTRATOR_ROOMS": "5", "ORCHESTRATOR_GRACE_SECONDS": "2"}):
        larger = Larger()
    assert (larger.rooms, larger.settings.policy.grace_seconds) == (5, 2)


def test_what_is_set_in_code_may_be_of_its_type() -> None:
    with environment({"ORCHESTRATOR_REDIS_URL": "redis://environment"}):
        url = SecretStr("redis://code")
        read = OrchestratorSettings(platform=Platform.KUBERNETES, redis_url=url, enabled=True)
    policy = Policy.for_platform(Platform.KUBERNETES)
    assert read.settings == Settings(policy=policy, redis_url="redis://code")


def test_it_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        OrchestratorSettings().enabled = False


def test_a_misspelt_variable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with environment({"ORCHESTRATOR_BUDGET_SECOND": "9", "ORCHESTRATOR__ROOMS": "1"}):
        OrchestratorSettings()
    assert "did you mean ORCHESTRATOR_BUDGET_SECONDS?" in caplog.text
    assert len(caplog.records) == 1, "what has two underscores belongs to a model around it"
