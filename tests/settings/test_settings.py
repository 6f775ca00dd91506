"""Settings from the environment, and bad ones refused by one clear line."""

from dataclasses import fields

import pytest

from orchestrator import Platform, Policy
from orchestrator._runtime.notify_socket import PARENT_SOCKET
from orchestrator.pod._places import VARIABLE as POD_DIR
from orchestrator.settings import (
    DEFAULT_REDIS_URL,
    OF_AUTO,
    PREFIX,
    AutoSettings,
    Settings,
    SettingsError,
    detect_platform,
)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings(policy=Policy(), redis_url="redis://localhost:6379/0")


@pytest.mark.parametrize(
    ("environ", "platform"),
    [
        ({"K_SERVICE": "chat"}, Platform.CLOUD_RUN),
        ({"CLOUD_RUN_JOB": "job"}, Platform.CLOUD_RUN_JOB),
        ({"CLOUD_RUN_WORKER_POOL": "pool"}, Platform.CLOUD_RUN_WORKER_POOL),
        ({"GAE_ENV": "standard"}, Platform.APP_ENGINE),
        ({"GAE_SERVICE": "default", "GAE_INSTANCE": "i-1", "PORT": "8080"}, Platform.APP_ENGINE),
        ({"FUNCTION_TARGET": "main", "K_SERVICE": "main"}, Platform.CLOUD_FUNCTIONS),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Platform.KUBERNETES),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "K_SERVICE": "knative"}, Platform.KUBERNETES),
        ({"K_SERVICE": "chat", "ORCHESTRATOR_PLATFORM": "other"}, Platform.OTHER),
        ({"ORCHESTRATOR_PLATFORM": "Cloud-Run"}, Platform.CLOUD_RUN),
        ({"K_SERVICE": ""}, Platform.OTHER),
    ],
)
def test_the_platform_is_detected_from_the_environment(
    environ: dict[str, str], platform: Platform
) -> None:
    assert detect_platform(environ) is platform
    policy = Settings.from_environment(environ).policy
    expected = (60.0, 0.5) if platform.is_gcp else (30.0, 0.0)
    assert (policy.budget_seconds, policy.grace_seconds) == expected


def test_every_field_of_the_policy_has_its_variable() -> None:
    for field in fields(Policy):
        if field.name != "platform":
            value = getattr(Policy(), field.name)
            settings = Settings.from_environment({PREFIX + field.name.upper(): f" {value} "})
            assert getattr(settings.policy, field.name) == value
            assert type(getattr(settings.policy, field.name)) is type(value)


def test_the_orchestrators_own_redis_url_goes_first() -> None:
    environ = {"REDIS_URL": "redis://one", "ORCHESTRATOR_REDIS_URL": "rediss://two"}
    assert Settings.from_environment(environ).redis_url == "rediss://two"
    assert Settings.from_environment({"REDIS_URL": "unix:///tmp/r"}).redis_url == "unix:///tmp/r"


@pytest.mark.parametrize(
    ("text", "enabled"),
    [("false", False), ("0", False), ("OFF", False), ("no", False), ("true", True), ("", True)],
)
def test_the_rollback(text: str, enabled: bool) -> None:
    assert Settings.from_environment({"ORCHESTRATOR_ENABLED": text}).enabled is enabled


def test_the_rollback_works_whatever_else_is_wrong() -> None:
    environ = {
        "ORCHESTRATOR_ENABLED": "false",
        "REDIS_URL": "nonsense",
        "ORCHESTRATOR_X_SECONDS": "",
    }
    environ["ORCHESTRATOR_GRACE_SECONDS"] = "99"
    settings = Settings.from_environment(environ)
    assert not settings.enabled
    assert settings.policy == Policy()
    assert settings.redis_url == DEFAULT_REDIS_URL


def test_the_rollback_leaves_the_application_its_redis() -> None:
    environ = {"ORCHESTRATOR_ENABLED": "false", "REDIS_URL": "redis://there:6379/2"}
    assert Settings.from_environment(environ).redis_url == "redis://there:6379/2"


def test_a_default_that_is_in_the_way_is_called_one() -> None:
    with pytest.raises(SettingsError, match=r"ATTEMPT_TIMEOUT_SECONDS is 1.0 by default; it must"):
        Settings.from_environment({"ORCHESTRATOR_BUDGET_SECONDS": "0.5"})


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            {"ORCHESTRATOR_BUDGET_SECONDS": "soon"},
            "ORCHESTRATOR_BUDGET_SECONDS is 'soon'; it must be a number above 0",
        ),
        (
            {"ORCHESTRATOR_FAILURES_TO_DEGRADE": "2.5"},
            "ORCHESTRATOR_FAILURES_TO_DEGRADE is '2.5'; it must be a whole number of 1 or more",
        ),
        (
            {"ORCHESTRATOR_GRACE_SECONDS": "90"},
            (
                "ORCHESTRATOR_GRACE_SECONDS is 90.0; it must be at most 30,"
                " the budget (ORCHESTRATOR_BUDGET_SECONDS)"
            ),
        ),
        (
            {"K_SERVICE": "chat", "ORCHESTRATOR_BUDGET_SECONDS": "300"},
            (
                "ORCHESTRATOR_BUDGET_SECONDS is 300.0; it must be at most 240,"
                " the longest that a Cloud Run start-up probe may wait"
            ),
        ),
        (
            {"ORCHESTRATOR_ENABLED": "maybe"},
            "ORCHESTRATOR_ENABLED is 'maybe'; it must be true or false",
        ),
        (
            {"ORCHESTRATOR_PLATFORM": "mars"},
            (
                "ORCHESTRATOR_PLATFORM is 'mars'; it must be one of cloud_run, cloud_run_job,"
                " cloud_run_worker_pool, app_engine, cloud_functions, kubernetes, other"
            ),
        ),
    ],
)
def test_a_bad_value_names_the_variable_the_value_and_what_is_allowed(
    environ: dict[str, str], text: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ)
    assert str(caught.value) == text


def test_no_error_or_repr_shows_a_secret() -> None:
    for environ in (
        {"REDIS_URL": "http://user:hunter2@host"},
        {"ORCHESTRATOR_BUDGET_SECONDS": "redis://user:hunter2@host"},
    ):
        with pytest.raises(SettingsError) as caught:
            Settings.from_environment(environ)
        assert "hunter2" not in str(caught.value)
        assert caught.value.variable in str(caught.value)
    assert "hunter2" not in repr(Settings.from_environment({"REDIS_URL": "redis://:hunter2@h"}))


def service_variables(name: str, port: str = "HTTP") -> dict[str, str]:
    """What Kubernetes sets for a Service, and Docker for a link."""
    address, first = "tcp://10.0.0.7:8080", f"{name}_PORT_8080_TCP"
    return {
        f"{name}_SERVICE_HOST": "10.0.0.7",
        f"{name}_SERVICE_PORT": "8080",
        f"{name}_SERVICE_PORT_{port}": "8080",
        f"{name}_PORT": address,
        first: address,
        f"{first}_PROTO": "tcp",
        f"{first}_PORT": "8080",
        f"{first}_ADDR": "10.0.0.7",
        f"{name}_PORT_53_UDP": "udp://10.0.0.7:53",
    }


@pytest.mark.parametrize(
    "name",
    [
        "ORCHESTRATOR",
        "ORCHESTRATOR_API",
        "ORCHESTRATOR_REDIS_URL",
        "ORCHESTRATOR_PLATFORM",
        "ORCHESTRATOR_ENABLED",
        "REDIS",
        "REDIS_URL",
    ],
)
def test_variables_of_a_service_of_kubernetes_are_no_settings(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_service = Settings.from_environment(service_variables(name))
    assert with_service == Settings.from_environment({})
    assert not caplog.text


@pytest.mark.parametrize(
    "variable",
    [
        "ORCHESTRATOR_PORTS",
        "ORCHESTRATOR_BUDGET_PORTS",
        "ORCHESTRATOR_SERVICE",
        "ORCHESTRATOR_HOST",
    ],
)
def test_what_only_looks_like_one_is_warned_of(
    variable: str, caplog: pytest.LogCaptureFixture
) -> None:
    Settings.from_environment({variable: "9"})
    assert f"the variable {variable} is not known" in caplog.text


def test_a_misspelt_variable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Settings.from_environment({"ORCHESTRATOR_BUDGET_SECOND": "9"})
    assert "did you mean ORCHESTRATOR_BUDGET_SECONDS?" in caplog.text


def test_what_runs_an_application_behind_its_gate_has_settings_of_its_own() -> None:
    assert AutoSettings.from_environment({"ORCHESTRATOR_APP": "chat:app"}) == AutoSettings(
        app="chat:app", has_redis=False
    )
    environ = {
        "ORCHESTRATOR_APP": " chat:app ",
        "ORCHESTRATOR_IMPORT": "loop",
        "ORCHESTRATOR_HOLD_SECONDS": "7.5",
        "ORCHESTRATOR_MAX_HELD": "10",
        "ORCHESTRATOR_HEALTH_DETAILS": "yes",
        "ORCHESTRATOR_PAGE": "/startup",
        "ORCHESTRATOR_POD": "off",
        "REDIS_URL": "redis://redis",
    }
    assert AutoSettings.from_environment(environ) == AutoSettings(
        app="chat:app",
        import_on="loop",
        hold_seconds=7.5,
        max_held=10,
        health_details=True,
        page="/startup",
        pod=False,
    )
    for name, value in {
        "APP": "",
        "IMPORT": "main",
        "HOLD_SECONDS": "-1",
        "MAX_HELD": "2.5",
        "HEALTH_DETAILS": "maybe",
        "PAGE": "/",
        "POD": "4",
        "FLEET": "chat",
    }.items():
        with pytest.raises(SettingsError, match=f"^ORCHESTRATOR_{name} is .*; it must"):
            AutoSettings.from_environment({**environ, f"ORCHESTRATOR_{name}": value})


def test_what_other_rooms_read_is_no_misspelling(caplog: pytest.LogCaptureFixture) -> None:
    names = [*(f"ORCHESTRATOR_{name}" for name in OF_AUTO), POD_DIR, PARENT_SOCKET]
    names += [f"ORCHESTRATOR_FLEET_{name}" for name in ("SERVICE", "INSTANCE", "VERSION")]
    Settings.from_environment(dict.fromkeys(names, "x"))
    assert caplog.text == ""
