"""The files in docs/deploy: they parse, and their numbers are what the policy's defaults give."""

import configparser
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.asgi import HEALTH_PATHS
from orchestrator.cli import main
from orchestrator.cli._shell.exit_codes import PERMANENT
from orchestrator.cli.policy.numbers import Hosting, Numbers, recommended
from orchestrator.cli.policy.rules import check
from states import Platform, Policy, Stage
from tests.fleet.scripted_instance import ScriptedInstance
from tests.redis_server import RedisServer

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
UNIT = DEPLOY / "startup-orchestrator@.service"

Yaml = dict[str, Any]  # as YAML gives it


def documents(name: str) -> list[Yaml]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def container_of(document: Yaml) -> Yaml:
    (container,) = document["spec"]["template"]["spec"]["containers"]
    return dict(container)


def probes_of(container: Yaml) -> dict[str, Yaml]:
    return {name: container[name] for name in container if name.endswith("Probe")}


def numbers_in(startup: Yaml, liveness: Yaml, **others: float) -> Numbers:
    place_free: dict[str, float]
    place_free = {"boot_seconds": 10.0, "hold_seconds": 5.0, "start_limit_seconds": 0.0}
    place_free |= {"ingress_seconds": others.pop("ingress_seconds", 0.0)}
    place_free |= {"restart_seconds": 1.0, "start_limit_interval_seconds": 0.0}
    return Numbers(
        **place_free,
        start_limit_burst=5,
        initial_delay_seconds=startup.get("initialDelaySeconds", 0),
        period_seconds=startup["periodSeconds"],
        timeout_seconds=startup["timeoutSeconds"],
        failure_threshold=startup["failureThreshold"],
        liveness_period_seconds=liveness["periodSeconds"],
        liveness_threshold=liveness["failureThreshold"],
        **others,
    )


def the_same_but_for_the_start_limit(found: Numbers, wanted: Numbers) -> None:
    for name in Numbers.__slots__:
        if name != "start_limit_seconds":
            assert getattr(found, name) == getattr(wanted, name), name


def test_cloud_run() -> None:
    (service,) = documents("cloud-run.service.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.knative.dev/v1", "Service")
    container = container_of(service)
    probes = probes_of(container)
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
        "startupProbe": "/startupz",
        "livenessProbe": "/livez",
    }
    ports = {probe["httpGet"]["port"] for probe in probes.values()}
    assert ports == {port["containerPort"] for port in container["ports"]}
    policy = Policy.for_platform(Platform.CLOUD_RUN)
    wanted = recommended(policy, Hosting.CLOUD_RUN)
    found = numbers_in(
        probes["startupProbe"],
        probes["livenessProbe"],
        pre_stop_seconds=0.0,
        drain_seconds=wanted.drain_seconds,
        stop_limit_seconds=10.0,
    )
    the_same_but_for_the_start_limit(found, wanted)
    assert found.window_seconds <= 240
    assert check(policy, found, Hosting.CLOUD_RUN).findings == ()


def test_kubernetes() -> None:
    deployment, service = documents("kubernetes.yaml")
    container = container_of(deployment)
    probes = probes_of(container)
    assert sorted(probe["httpGet"]["path"] for probe in probes.values()) == sorted(HEALTH_PATHS)
    assert probes["livenessProbe"]["httpGet"]["path"] == "/livez", "Redis has no part in it"
    names = {port["name"] for port in container["ports"]}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == names
    assert service["spec"]["ports"][0]["targetPort"] in names
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    hook = container["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == ["startup-orchestrator", "drain"]
    policy = Policy.for_platform(Platform.KUBERNETES)
    wanted = recommended(policy, Hosting.KUBERNETES)
    found = numbers_in(
        probes["startupProbe"],
        probes["livenessProbe"],
        pre_stop_seconds=0.0,  # the hook is the drain itself
        ingress_seconds=wanted.ingress_seconds,
        drain_seconds=wanted.drain_seconds,
        stop_limit_seconds=deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    )
    the_same_but_for_the_start_limit(found, wanted)
    assert check(policy, found, Hosting.KUBERNETES).findings == ()


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None,
    reason="the schemas of Kubernetes are not installed: they come with the extra `kubernetes`",
)
def test_kubernetes_by_its_own_schemas() -> None:
    schemas = importlib.import_module("kubernetes_validate")  # not everybody has it
    for document in [*documents("kubernetes.yaml"), *documents("fleet-gate.job.yaml")]:
        schemas.validate(document, "1.30", strict=True)


def test_the_gate_for_rollouts_waits_for_the_version_that_is_deployed() -> None:
    deployment, _ = documents("kubernetes.yaml")
    (job,) = documents("fleet-gate.job.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    version = labels["app.kubernetes.io/version"]
    container, gate = container_of(deployment), container_of(job)
    (field,) = [one for one in container["env"] if one["name"] == "ORCHESTRATOR_FLEET_VERSION"]
    path = field["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.labels['app.kubernetes.io/version']"
    assert gate["image"] == container["image"]
    options = dict(option.split("=") for option in gate["args"][1:])
    assert options["--version"] == version
    assert int(options["--until-ready"]) == deployment["spec"]["replicas"]
    assert float(options["--timeout"]) < job["spec"]["activeDeadlineSeconds"]


def test_the_gate_for_rollouts_runs_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = documents("fleet-gate.job.yaml")
    gate = container_of(job)
    with RedisServer() as server:
        for name in "ab":
            ScriptedInstance(server.port, name, version="1.0.0", lease_seconds=60).be(Stage.READY)
        monkeypatch.setenv("REDIS_URL", server.url)
        assert main([*gate["args"], "--for=0"]) == 0  # it need not be watched for 10 s
    assert "2 of 2 instances of 1.0.0 are ready" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cloud-run.service.yaml", "kubernetes.yaml"])
def test_what_comments_say_of_the_sums_is_true(name: str) -> None:
    policy = Policy.for_platform(
        Platform.CLOUD_RUN if name.startswith("cloud") else Platform.KUBERNETES
    )
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert f"budget {policy.budget_seconds:g} s" in text
    assert (f"grace {policy.grace_seconds:g} s" in text) == (policy.grace_seconds > 0)


class Unit(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:  # names are told apart by case
        return optionstr


def test_systemd() -> None:
    unit = Unit()
    unit.read(UNIT, encoding="utf-8")
    service = unit["Service"]
    wanted = recommended(Policy(), Hosting.SYSTEMD)
    assert float(service["TimeoutStartSec"]) == wanted.start_limit_seconds
    assert float(service["TimeoutStopSec"]) == wanted.stop_limit_seconds
    assert float(unit["Unit"]["StartLimitIntervalSec"]) == wanted.start_limit_interval_seconds
    assert float(service["RestartSec"]) == wanted.restart_seconds
    assert service["Type"] == "notify"
    assert str(PERMANENT) in service["RestartPreventExitStatus"].split()
    words = re.sub(r"^\S+", "", service["ExecStart"]).split()
    assert words[0] == "run"
    assert words[-2:] == ["--", "$COMMAND"]
    assert check(Policy(), wanted, Hosting.SYSTEMD).findings == ()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_verifies_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    program = Path(sys.executable).resolve()  # what it looks for has to exist
    copy = tmp_path / "startup-orchestrator@chat.service"
    copy.write_text(text.replace("/usr/local/bin/startup-orchestrator", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if copy.name in line or "startup" in line]
    assert said == []
