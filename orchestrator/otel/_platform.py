"""What a serverless platform says of itself in the environment."""

from collections.abc import Mapping

from opentelemetry.util.types import AttributeValue


def platform_attributes(environ: Mapping[str, str]) -> dict[str, AttributeValue]:
    """What Google Cloud's serverless platforms say in the environment, by semantic conventions."""
    if "GAE_SERVICE" in environ:
        platform = "gcp_app_engine"
        names = {"name": "GAE_SERVICE", "version": "GAE_VERSION", "instance": "GAE_INSTANCE"}
    elif "CLOUD_RUN_JOB" in environ:
        platform, names = "gcp_cloud_run", {"name": "CLOUD_RUN_JOB"}
    elif "K_SERVICE" in environ:
        # Cloud Functions run on Cloud Run and say so by naming the function.
        function = "FUNCTION_TARGET" in environ
        platform = "gcp_cloud_functions" if function else "gcp_cloud_run"
        names = {"name": "K_SERVICE", "version": "K_REVISION"}
    else:
        return {}
    found: dict[str, AttributeValue] = {"cloud.provider": "gcp", "cloud.platform": platform}
    found |= {f"faas.{what}": environ[name] for what, name in names.items() if name in environ}
    found["service.name"] = environ[names["name"]]
    if "CLOUD_RUN_EXECUTION" in environ:
        found["gcp.cloud_run.job.execution"] = environ["CLOUD_RUN_EXECUTION"]
    if environ.get("CLOUD_RUN_TASK_INDEX", "").isdecimal():
        found["gcp.cloud_run.job.task_index"] = int(environ["CLOUD_RUN_TASK_INDEX"])
    return found
