"""`check-policy`: each rule can be broken, and what it recommends works."""

import json

import pytest

from orchestrator.cli import main
from orchestrator.cli._check_policy import check
from orchestrator.cli._numbers import Place, recommended
from states import Policy


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("K_SERVICE", "KUBERNETES_SERVICE_HOST", "ORCHESTRATOR_BUDGET_SECONDS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("place", Place)
def test_what_is_recommended_works(place: Place) -> None:
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
        ("kubernetes --boot 15", 1, "error window-too-short"),
        ("cloud_run --budget 235", 1, "error cloud-run-limit"),
        ("cloud_run --probe-period 2 --probe-timeout 3", 1, "error timeout-beyond-period"),
        ("kubernetes --probe-timeout 3", 0, "warning timeout-beyond-period"),
        ("cloud_run --probe-period 3", 0, "warning slow-probe"),
        ("cloud_run --drain 11", 1, "error killed-while-draining"),
        ("kubernetes --pre-stop 11", 1, "error killed-while-draining"),
        ("systemd --drain 60", 1, "error killed-while-draining"),
        ("systemd --start-limit 30", 1, "error start-limit-too-short"),
        ("kubernetes --budget 700", 0, "warning progress-deadline"),
        ("cloud_run --budget 60 --grace 31", 0, "warning grace-eats-budget"),
        ("cloud_run --grace 5", 0, "warning grace-beyond-hold"),
        ("kubernetes --liveness-period 1", 0, "warning hasty-liveness"),
        ("other --hold 10 --drain 10", 0, "warning hold-beyond-clients"),
        ("other --hold 6", 0, "warning hold-beyond-drain"),
    ],
)
def test_each_rule(
    arguments: str, status: int, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found_status, found = rules(capsys, "--platform", *arguments.split())
    assert rule in found
    if "--probe-period 3" not in arguments:  # with it, the threshold of 72 is beyond the limit
        assert found_status == status


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
        ("--probe-period 0", "--probe-period is 0; it must be a number above 0"),
        ("--failure-threshold 0", "--failure-threshold is 0; it must be a number above 0"),
        ("--drain nan", "--drain is nan; it must be"),
    ],
)
def test_wrong_usage(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-policy", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("startup-orchestrator: ")
    assert says in error
    assert error.count("\n") == 1
