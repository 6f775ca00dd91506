"""`check-policy`: each rule can be broken, and what it recommends works."""

import json

import pytest

from orchestrator.cli import main
from orchestrator.cli.policy.numbers import Hosting, recommended
from orchestrator.cli.policy.rules import check
from states import Policy


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("K_SERVICE", "KUBERNETES_SERVICE_HOST", "ORCHESTRATOR_BUDGET_SECONDS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("place", Hosting)
def test_what_is_recommended_works(place: Hosting) -> None:
    policy = Policy.for_platform(place.platform)
    assert check(policy, recommended(policy, place), place).findings == ()


def rules(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    status = main(["check-policy", "--json", *arguments])
    told = json.loads(capsys.readouterr().out)
    assert told["exit_status"] == status
    return status, [f"{one['severity']} {one['rule']}" for one in told["findings"]]


@pytest.mark.parametrize(
    ("arguments", "status", "rule"),
    [
        ("cloud_run --failure-threshold 3", 1, "error window-too-short"),
        ("kubernetes --boot 15 --failure-threshold 41", 1, "error window-too-short"),
        ("cloud_run --failure-threshold 71", 1, "error window-too-short"),
        ("kubernetes --probe-period 5 --failure-threshold 8", 1, "error window-too-short"),
        ("cloud_run --failure-threshold 241", 1, "error cloud-run-limit"),
        ("cloud_run --probe-period 121", 1, "error cloud-run-limit"),
        ("cloud_run --initial-delay 241", 1, "error cloud-run-delay"),
        ("cloud_run --stop-limit 60", 1, "error stop-limit-is-fixed"),
        ("cloud_run --stop-limit 60 --drain 30", 1, "error killed-while-draining"),
        ("systemd --start-limit-interval 300", 1, "error start-limit-reached"),
        (
            "systemd --start-limit-interval 10 --budget 1 --restart-delay 0.1",
            1,
            "error start-limit-reached",
        ),
        ("cloud_run --budget 235", 1, "error cloud-run-limit"),
        ("cloud_run --probe-period 2 --probe-timeout 3", 1, "error timeout-beyond-period"),
        ("kubernetes --probe-timeout 3", 0, "warning timeout-beyond-period"),
        ("cloud_run --probe-period 3", 0, "warning slow-probe"),
        ("cloud_run --drain 11", 1, "error killed-while-draining"),
        ("kubernetes --pre-stop 6", 1, "error killed-while-draining"),
        ("systemd --drain 60", 1, "error killed-while-draining"),
        ("systemd --start-limit 30", 1, "error start-limit-too-short"),
        ("kubernetes --budget 700", 0, "warning progress-deadline"),
        ("cloud_run --budget 60 --grace 31", 0, "warning grace-eats-budget"),
        ("cloud_run --grace 5", 0, "warning grace-beyond-hold"),
        ("kubernetes --liveness-period 1", 0, "warning hasty-liveness"),
        ("other --hold 10 --drain 10", 0, "warning hold-beyond-clients"),
        ("other --hold 9", 0, "warning hold-beyond-drain"),
        ("kubernetes --ingress 15", 0, "warning announced-too-briefly"),
        ("cloud_run --ingress 3", 0, "warning announced-too-briefly"),
    ],
)
def test_each_rule(
    arguments: str, status: int, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found_status, found = rules(capsys, "--platform", *arguments.split())
    assert rule in found
    assert found_status == status


@pytest.mark.parametrize(
    "arguments",
    [
        "kubernetes --boot 20",
        "kubernetes --initial-delay 15",
        "kubernetes --initial-delay 15 --failure-threshold 26",
        "kubernetes --probe-period 5 --failure-threshold 9",
        "cloud_run --probe-period 5",
        "cloud_run --probe-timeout 3",
        "cloud_run --probe-period 5 --initial-delay 240",
        "cloud_run --stop-limit 10",
        "systemd --boot 20",
        "systemd --start-limit-interval 10",
        "systemd --start-limit-interval 300 --start-limit-burst 0",
    ],
)
def test_what_is_not_given_follows_from_what_is(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = rules(capsys, "--platform", *arguments.split())
    assert (status, [one for one in found if one.startswith("error")]) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "advice", "then"),
    [
        (
            "cloud_run --budget 235",
            "set failureThreshold to 240, and the budget to at most 228.5 s",
            "cloud_run --budget 228.5 --failure-threshold 240",
        ),
        (
            "cloud_run --failure-threshold 300",
            "set failureThreshold to 72",
            "cloud_run --failure-threshold 72",
        ),
        ("cloud_run --probe-period 121", "set periodSeconds to 1", "cloud_run --probe-period 1"),
        (
            "kubernetes --probe-period 4 --failure-threshold 3",
            "Set failureThreshold to 11",
            "kubernetes --probe-period 4 --failure-threshold 11",
        ),
        (
            "cloud_run --probe-timeout 5",
            "set periodSeconds and timeoutSeconds to 1, and failureThreshold to 72",
            "cloud_run --probe-period 1 --probe-timeout 1 --failure-threshold 72",
        ),
    ],
)
def test_advice_is_what_works(
    arguments: str, advice: str, then: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check-policy", "--platform", *arguments.split()])
    assert advice in capsys.readouterr().out
    assert rules(capsys, "--platform", *then.split())[0] == 0


def test_the_environment_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("K_SERVICE", "chat")
    monkeypatch.setenv("ORCHESTRATOR_BUDGET_SECONDS", "100")
    assert main(["check-policy", "--failure-threshold", "72"]) == 1
    out = capsys.readouterr().out
    assert "cloud_run: decided after at most 110.5 s (boot 10 + budget 100 + grace 0.5)" in out
    assert "Set failureThreshold to 112" in out
    assert main(["check-policy"]) == 0
    assert capsys.readouterr().out.endswith("ok: these numbers work together\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--platform moon", "--platform is moon; it must be one of cloud_run, "),
        ("--platform cloud_run --budget 300", "--budget is 300.0; it must be at most 240"),
        ("--budget -1", "--budget is -1; it must be a number of 0 or more"),
        ("--probe-period 0", "--probe-period is 0; it must be a whole number above 0"),
        ("--failure-threshold 0", "--failure-threshold is 0; it must be a number above 0"),
        ("--probe-period 1.5", "--probe-period is 1.5; it must be a whole number above 0"),
        ("--initial-delay 0.5", "--initial-delay is 0.5; it must be a whole number of 0 or more"),
        (
            "--platform kubernetes --pre-stop 2.5",
            "--pre-stop is 2.5; it must be a whole number of 0 or more",
        ),
        ("--boot 1e9", "--boot is 1e+09; it must be a number of 0 or more and below 1e9"),
        ("--drain nan", "--drain is nan; it must be"),
    ],
)
def test_wrong_usage(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-policy", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("startup-orchestrator: ")
    assert says in error
    assert error.count("\n") == 1
