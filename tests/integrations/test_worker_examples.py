"""The workers among the examples, each under `run`, which is ready when they are."""

import importlib.util
import sys
from contextlib import ExitStack
from importlib.metadata import version

import pytest
from packaging.version import Version

from tests.cli.cli_support import PATIENCE_SECONDS, ROOT, a_command, line_with
from tests.cli.test_child_ready import until_told
from tests.cli.test_run import port_in
from tests.redis_server import RedisServer

WORKERS = {
    "celery": "celery --workdir docs/examples -A celery_worker worker --concurrency 1 -l ERROR",
    "arq": "arq arq_worker.WorkerSettings",
    "taskiq_redis": "taskiq worker taskiq_worker:broker --workers 2",
    "faststream": "faststream.__main__ run faststream_worker:app",
}
"""The module to run, and its arguments, by the package that it needs."""


def runs_here(name: str) -> bool:
    if importlib.util.find_spec(name) is None:
        return False
    # Before 0.28, which wants redis-py before 6, arq's worker asks for a loop that Python 3.14 does
    # not make.
    return name != "arq" or sys.version_info < (3, 14) or Version(version(name)) >= Version("0.28")


@pytest.mark.long
def test_workers_of_queues_are_ready_once_they_take_jobs() -> None:
    """All at once: most of their time is imports."""
    present = [name for name in WORKERS if runs_here(name)]
    if not present:
        pytest.skip("needs celery, arq, taskiq-redis or faststream")
    with RedisServer() as redis, ExitStack() as running:
        fixed = ("run", "--port", "0", "--host", "127.0.0.1", "--child-ready", "reported")
        path = f"{ROOT}:{ROOT}/docs/examples"
        processes = [
            running.enter_context(
                a_command(
                    *(*fixed, "--redis", redis.url, "--", sys.executable, "-W", "ignore", "-m"),
                    *WORKERS[name].split(),
                    REDIS_URL=redis.url,
                    PYTHONPATH=path,
                )
            )
            for name in present
        ]
        ports = [port_in(process) for process in processes]
        for process, port in zip(processes, ports, strict=True):
            line_with(process, "started")
            until_told(port, "/readyz", 200)
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE_SECONDS)
