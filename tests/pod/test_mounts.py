"""Where workers meet on file systems that are mounted as platforms mount them. It needs root."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from orchestrator.pod._members import has_locks
from tests.redis_server import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
UNSHARE = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]


def may_mount() -> bool:
    if shutil.which("unshare") is None or not has_locks():
        return False
    tried = subprocess.run([*UNSHARE, "mount -t tmpfs x /mnt"], capture_output=True, check=False)
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(not may_mount(), reason="needs root and the right to mount")

SHM, TMP = "/dev/shm", "/tmp"  # noqa: S108  where the workers are to meet

READ_ONLY = """
mount -t tmpfs -o ro tmpfs /dev/shm
for folder in /tmp /var/tmp; do mount --bind $folder $folder; mount -o remount,bind,ro $folder; done
"""

MEET = """
import codecs, os, sys
from orchestrator.pod._members import Member
from orchestrator.pod._parent import ParentProcess
from orchestrator.pod._places import NoPlaceError, find_place
codecs.lookup("ascii")  # loaded now: the other user may not read where Python is
os.setuid(int(sys.argv[1]))
try:
    Member(place := find_place(ParentProcess(os.getppid()), "")).leave()
    print(place.parents[1])
    place.parent.rmdir()
except NoPlaceError as error:
    print(error)
except OSError:
    pass  # others are there
"""


@pytest.mark.parametrize(
    ("mount", "user", "place"),
    [
        ("mount -t tmpfs -o noexec,nosuid,nodev tmpfs /dev/shm", 0, SHM),
        ("mount -t tmpfs -o ro tmpfs /dev/shm", 0, TMP),
        ("mount -t tmpfs -o size=64k tmpfs /dev/shm", 0, TMP),
        (
            "mount -t tmpfs -o size=1m tmpfs /dev/shm; head -c 900k /dev/zero > /dev/shm/full",
            0,
            TMP,
        ),
        ("mount -t tmpfs -o mode=755 tmpfs /dev/shm", 65534, TMP),
    ],
    ids=["noexec", "read-only", "small", "full", "another user's"],
)
def test_the_first_place_that_can_be_used_is_taken(mount: str, user: int, place: str) -> None:
    script = f'{mount}\nexec "$@"'
    done = subprocess.run(
        [*UNSHARE, script, "sh", sys.executable, "-c", MEET, str(user)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[:1]) == (0, [place]), done.stderr


@pytest.mark.long
def test_without_any_place_workers_start_each_for_itself_and_write_nothing(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "--workers", "2"]
    command += ["--port", str(port), "--log-level", "warning", "tests.pod.workers_app:app"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*UNSHARE, f'{READ_ONLY}exec "$@"', "sh", *command],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        limit = time.monotonic() + PATIENCE_SECONDS
        said = ""
        while said.count("the workers cannot meet") < 2:
            assert time.monotonic() < limit, said
            time.sleep(0.1)
            said = (tmp_path / "log").read_text(errors="replace")
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30, trust_env=False)
        assert (answer.status_code, answer.json()["pod"]["alone"]) == (200, True)
        assert said.count("the workers cannot meet") == 2, "one line of each"
        assert "Traceback" not in said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
