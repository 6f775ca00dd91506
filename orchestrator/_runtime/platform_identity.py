"""What a platform says of itself in the environment; nothing is asked over the network.

Traces and the fleet call a service, its instances and its versions by what is found here.
"""

import secrets
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from orchestrator._hardening.text import one_line

_KUBERNETES = {
    "k8s.pod.name": ("K8S_POD_NAME", "POD_NAME", "MY_POD_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "POD_UID", "MY_POD_UID"),
    "k8s.namespace.name": ("K8S_NAMESPACE_NAME", "POD_NAMESPACE", "MY_POD_NAMESPACE"),
    "k8s.node.name": ("K8S_NODE_NAME", "NODE_NAME", "MY_NODE_NAME"),
    "k8s.container.name": ("K8S_CONTAINER_NAME", "CONTAINER_NAME"),
    "k8s.deployment.name": ("K8S_DEPLOYMENT_NAME", "DEPLOYMENT_NAME"),
    "k8s.cluster.name": ("K8S_CLUSTER_NAME",),
}
"""The downward API gives these under whatever names the manifest chose: the usual ones, the
attribute's own first. The first that is set counts."""


def platform_attributes(environ: Mapping[str, str]) -> dict[str, str | int]:
    """What the platform says in the environment, in names of the semantic conventions."""
    # A variable may hold any bytes, and one that is no text would keep every span from leaving.
    environ = {name: one_line(value) for name, value in environ.items()}
    if "KUBERNETES_SERVICE_HOST" in environ:
        return _knative(environ) | _kubernetes(environ)
    return _google_cloud(environ)


def _knative(environ: Mapping[str, str]) -> dict[str, str | int]:
    """Knative has the variables of Cloud Run, which serves its API, on any Kubernetes."""
    names = {"service.name": "K_SERVICE", "faas.name": "K_SERVICE", "faas.version": "K_REVISION"}
    return {attribute: environ[name] for attribute, name in names.items() if environ.get(name)}


def _google_cloud(environ: Mapping[str, str]) -> dict[str, str | int]:
    """Google Cloud's serverless platforms."""
    if "GAE_SERVICE" in environ:
        platform = "gcp_app_engine"
        names = {"name": "GAE_SERVICE", "version": "GAE_VERSION", "instance": "GAE_INSTANCE"}
    elif "CLOUD_RUN_JOB" in environ:
        platform, names = "gcp_cloud_run", {"name": "CLOUD_RUN_JOB"}
    elif "CLOUD_RUN_WORKER_POOL" in environ:
        platform, names = "gcp_cloud_run", {"name": "CLOUD_RUN_WORKER_POOL"}
    elif "K_SERVICE" in environ:
        # Cloud Functions run on Cloud Run and say so by naming the function.
        function = "FUNCTION_TARGET" in environ
        platform = "gcp_cloud_functions" if function else "gcp_cloud_run"
        names = {"name": "K_SERVICE", "version": "K_REVISION"}
    else:
        return {}
    found: dict[str, str | int] = {"cloud.provider": "gcp", "cloud.platform": platform}
    found |= {f"faas.{what}": environ[name] for what, name in names.items() if name in environ}
    found["service.name"] = environ[names["name"]]
    if project := environ.get("GOOGLE_CLOUD_PROJECT"):
        found["cloud.account.id"] = project
    if "CLOUD_RUN_EXECUTION" in environ:
        found["gcp.cloud_run.job.execution"] = environ["CLOUD_RUN_EXECUTION"]
    if environ.get("CLOUD_RUN_TASK_INDEX", "").isdecimal():
        found["gcp.cloud_run.job.task_index"] = int(environ["CLOUD_RUN_TASK_INDEX"])
    return found


def _kubernetes(environ: Mapping[str, str]) -> dict[str, str | int]:
    """A container of a pod, as far as its manifest tells it."""
    found: dict[str, str | int] = {}
    for attribute, names in _KUBERNETES.items():
        value = next((environ[name] for name in names if environ.get(name)), None)
        if value is not None:
            found[attribute] = value
    if "K_SERVICE" not in environ and (deployment := found.get("k8s.deployment.name")):
        found["service.name"] = deployment
    return found


class ServiceIdentity(NamedTuple):
    """What a process is a part of.

    Attributes:
        service: The service; empty if nothing in the environment names it.
        instance: This instance of it, such as the pod.
        version: What it runs; empty if nothing says so.
    """

    service: str
    instance: str
    version: str


def service_identity(environ: Mapping[str, str]) -> ServiceIdentity:
    """What the environment says: our own variables, then OpenTelemetry's, then the platform's."""
    found = {name: str(value) for name, value in platform_attributes(environ).items()}
    data = _of_opentelemetry(environ)

    def first(variable: str, *names: str) -> str:
        own = one_line(environ.get(f"ORCHESTRATOR_FLEET_{variable}", "").strip())
        return own or next(
            (one for name in names if (one := data.get(name) or found.get(name))), ""
        )

    return ServiceIdentity(
        first("SERVICE", "service.name"),
        first("INSTANCE", "service.instance.id", "k8s.pod.name", "faas.instance") or _host(),
        first("VERSION", "service.version", "faas.version"),
    )


def _of_opentelemetry(environ: Mapping[str, str]) -> dict[str, str]:
    pairs = (item.partition("=") for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    data = {name.strip(): one_line(unquote(value.strip())) for name, _, value in pairs}
    if name := environ.get("OTEL_SERVICE_NAME", "").strip():
        data["service.name"] = one_line(name)
    return data


def _host() -> str:
    """The name of the host, where that tells it from others; Cloud Run calls all `localhost`."""
    name = one_line(socket.gethostname())
    return name if name not in ("", "localhost") else f"instance-{secrets.token_hex(4)}"
