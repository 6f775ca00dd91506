"""`docs/deploy`: its service runs, and its files fit together."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator._runtime.platform_identity import platform_attributes
from tests.otel.collector_support import (
    COLLECTOR_CONFIG,
    find_program,
    get_json,
    until,
)
from tests.otel.otel_process import ROOT, at, receiving
from tests.redis_server import RedisServer, free_port

DEPLOY = ROOT / "docs" / "deploy"
Yaml = Any  # as YAML gives it


def read(path: Path) -> Yaml:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


COMPOSE = read(DEPLOY / "compose.yaml")["services"]
RULES = [rule for group in read(DEPLOY / "alerts.yaml")["groups"] for rule in group["rules"]]


def test_the_service_starts_is_gated_traced_and_measured() -> None:
    port = free_port()
    with receiving() as receiver, RedisServer() as redis:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port)],
            cwd=DEPLOY,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "ORCHESTRATOR_REDIS_URL": redis.url, **at(receiver)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            health = until(lambda: get_json(f"http://127.0.0.1:{port}/readyz"), "it is ready", 30)
            assert health["status"] == "pass"
            process.send_signal(signal.SIGTERM)
            _, logged = process.communicate(timeout=15)
        finally:
            process.kill()
            process.communicate()
    assert re.search(r"trace [0-9a-f]{32}: startup, ready after", logged)
    assert {"startup", "condition chat-listener", "PING"} <= {span.name for span in receiver.spans}
    names = {
        metric.name
        for request in receiver.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"orchestrator.startup.duration", "orchestrator.gate.admissions"} <= names


def test_the_manifest_of_kubernetes_names_all_that_the_downward_api_knows() -> None:
    deployment = next(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environ = {one["name"]: one.get("value", "of the pod") for one in container["env"]}
    found = platform_attributes(environ | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    page = (ROOT / "docs/reference/telemetry.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(k8s\.[a-z.]+)`", page))
    assert listed - {"k8s.cluster.name"} == found.keys() - {"service.name"}
    assert found["k8s.container.name"] == container["name"]
    assert found["k8s.deployment.name"] == deployment["metadata"]["name"]
    assert {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_METRIC_EXPORT_INTERVAL"} <= environ.keys()


def test_a_bar_of_a_graph_is_as_wide_as_metrics_are_sent() -> None:
    sources = read(DEPLOY / "grafana/provisioning/datasources/datasources.yaml")["datasources"]
    interval = int(COMPOSE["service"]["environment"]["OTEL_METRIC_EXPORT_INTERVAL"])
    assert sources[0]["jsonData"]["timeInterval"] == f"{interval // 1000}s"


def test_everything_that_compose_mounts_or_builds_is_there() -> None:
    for name, service in COMPOSE.items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).resolve().exists(), f"{name} mounts {source}"
        if build := service.get("build"):
            root = (DEPLOY / build["context"]).resolve()
            assert root == ROOT
            text = (root / build["dockerfile"]).read_text(encoding="utf-8")
            for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
                assert all((root / source).exists() for source in sources.split()), sources


def test_every_address_is_one_where_a_service_of_compose_listens() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    (served,) = re.findall(r'"--port", "(\d+)"', dockerfile)
    collector = COLLECTOR_CONFIG.read_text(encoding="utf-8")
    tempo = read(DEPLOY / "tempo.yaml")
    otlp = tempo["distributor"]["receivers"]["otlp"]["protocols"]
    listening = {
        "service": {served},
        "collector": set(re.findall(r"\$\{env:OTLP_\w+_PORT:-(\d+)\}", collector)),
        "tempo": {
            str(tempo["server"]["http_listen_port"]),
            *(one["endpoint"].removeprefix("0.0.0.0:") for one in otlp.values()),
        },
        # These listen where their images do without being told.
        "redis": {"6379"},
        "jaeger": {"4317", "16686"},
        "prometheus": {"9090"},
        "grafana": {"3000"},
    }
    assert set(listening) == set(COMPOSE)
    texts = [DEPLOY / "compose.yaml", *(DEPLOY / "grafana/provisioning").rglob("*.yaml")]
    text = "\n".join(one.read_text(encoding="utf-8") for one in texts)
    code = re.sub(r"#.*|image: .*", "", text)
    addresses = set(re.findall(r"(?:https?://|redis://|: )([a-z]+):(\d+)", code))
    assert {"redis", "collector", "tempo", "jaeger", "prometheus"} == {
        host for host, _ in addresses
    }
    for host, port in addresses:
        assert port in listening[host], f"{host} does not listen on {port}"
    for name, service in COMPOSE.items():
        for port in service.get("ports", []):
            assert port.rpartition(":")[2] in listening[name]


def test_every_port_is_open_on_this_machine_only_and_every_image_has_a_version() -> None:
    for service in COMPOSE.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        # A tag that moves would make it another set-up next year.
        assert re.search(r":v?\d", service.get("image", "built:1"))


def test_the_variables_of_the_collector_in_compose_are_those_of_its_configuration() -> None:
    known = set(re.findall(r"\$\{env:(\w+)", COLLECTOR_CONFIG.read_text(encoding="utf-8")))
    assert set(COMPOSE["collector"]["environment"]) <= known
    page = (ROOT / "docs/how-to/collectors.md").read_text(encoding="utf-8")
    assert known == set(re.findall(r"`([A-Z_]+)`", page.partition("## ")[0]))


def test_the_dashboard_uses_variables_that_it_has_and_panels_that_do_not_overlap() -> None:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/startup-orchestrator.json").read_text())
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard["panels"])))
    assert used == variables
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24  # Grafana's columns
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_sources_of_data_are_those_that_the_others_name() -> None:
    sources = read(DEPLOY / "grafana/provisioning/datasources/datasources.yaml")["datasources"]
    known = {source["uid"] for source in sources}
    assert len(known) == len(sources) == 3
    (exemplars,) = sources[0]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplars["datasourceUid"] in known
    assert exemplars["name"] == "trace_id"  # the label that Prometheus gives an exemplar over OTLP
    dashboard = json.loads((DEPLOY / "grafana/dashboards/startup-orchestrator.json").read_text())
    (variable,) = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    (default,) = [source for source in sources if source.get("isDefault")]
    assert default["type"] == variable["query"]  # so that it is what the dashboard begins with
    queried = [one["datasource"] for one in dashboard["panels"]]
    queried += [one["datasource"] for one in dashboard["templating"]["list"] if "datasource" in one]
    assert all(one == {"type": default["type"], "uid": "${datasource}"} for one in queried)


def test_every_file_is_looked_for_where_compose_mounts_it() -> None:
    (provider,) = read(DEPLOY / "grafana/provisioning/dashboards/dashboards.yaml")["providers"]
    dashboards = Path(provider["options"]["path"])
    assert mounted("grafana", dashboards) == DEPLOY / "grafana/dashboards"
    home = COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DEPLOY / "grafana/dashboards" / Path(home).relative_to(dashboards)).is_file()
    for name in ("collector", "tempo", "prometheus"):
        (config,) = [
            Path(word.partition("=")[2])
            for word in COMPOSE[name]["command"]
            if re.match("--?config", word)
        ]
        assert mounted(name, config).is_file()
        for rules in read(mounted(name, config)).get("rule_files", []):
            assert mounted(name, config.parent / rules) == DEPLOY / rules
    paths = re.findall(r"path: ([^,}\s]+)", (DEPLOY / "tempo.yaml").read_text(encoding="utf-8"))
    assert all(mounted("tempo", Path(path).parents[-3]) == DEPLOY / "tempo" for path in paths)


def mounted(name: str, path: Path) -> Path:
    """What a service has at a path, on this machine; a volume is written as a file of its name."""
    volumes: list[str] = COMPOSE[name]["volumes"]
    targets = dict(volume.split(":")[1::-1] for volume in volumes)
    return (DEPLOY / targets[str(path)]).resolve()


def test_the_rules_are_valid() -> None:
    done = subprocess.run(
        [
            *(find_program("PROMTOOL", "promtool"), "check", "rules"),
            str(DEPLOY / "alerts.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_alerts_pass_their_unit_tests() -> None:
    done = subprocess.run(
        [find_program("PROMTOOL", "promtool"), "test", "rules", str(DEPLOY / "alerts_test.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_in_a_unit_test() -> None:
    tests = read(DEPLOY / "alerts_test.yaml")
    fired = {
        one["alertname"]
        for test in tests["tests"]
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_wrong_threshold_does_not_pass_the_unit_tests(tmp_path: Path, rule: Yaml) -> None:
    """That the tests can fail: each rule, its comparison turned off, breaks one of its own."""
    tests = read(DEPLOY / "alerts_test.yaml")
    for test in tests["tests"]:
        asked = [one for one in test["alert_rule_test"] if one["alertname"] == rule["alert"]]
        test["alert_rule_test"] = asked
    tests["tests"] = [test for test in tests["tests"] if test["alert_rule_test"]]
    (tmp_path / "alerts_test.yaml").write_text(json.dumps(tests), encoding="utf-8")
    off, replaced = re.subn(r"(<|>=?) [\d.]+\s*$", "== 12345", rule["expr"])
    assert replaced == 1
    for expr in (rule["expr"], off):
        groups = [{"name": "one", "rules": [rule | {"expr": expr}]}]
        (tmp_path / "alerts.yaml").write_text(json.dumps({"groups": groups}), encoding="utf-8")
        done = subprocess.run(
            [find_program("PROMTOOL", "promtool"), "test", "rules", "alerts_test.yaml"],
            capture_output=True,
            check=False,
            cwd=tmp_path,
        )
        assert (done.returncode == 0) == (expr != off)


@pytest.mark.parametrize("logs", [False, True], ids=["as it is", "with the pipeline for logs"])
def test_the_collector_takes_its_configuration(tmp_path: Path, logs: bool) -> None:
    program = find_program("OTELCOL", "otelcol")
    files = ["--config", str(COLLECTOR_CONFIG)]
    if logs:
        page = (ROOT / "docs/how-to/collectors.md").read_text(encoding="utf-8")
        (snippet,) = re.findall(r"```yaml\n(.+?)```", page, re.DOTALL)
        (tmp_path / "logs.yaml").write_text(snippet, encoding="utf-8")
        files += ["--config", str(tmp_path / "logs.yaml")]
    done = subprocess.run(
        [program, "validate", *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
