"""Which process has started the workers, and how many there should be."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.pod import _parent
from orchestrator.pod._parent import ParentProcess, expected_workers, find_parent

ASKS = "from orchestrator.pod._parent import find_parent; print(find_parent())"


def tell(results: "multiprocessing.queues.Queue[int | None]") -> None:
    parent = find_parent()
    results.put(None if parent is None else parent.pid)


def test_a_process_that_multiprocessing_has_started_is_a_worker() -> None:
    context = multiprocessing.get_context("spawn")  # as uvicorn, hypercorn and granian do
    results = context.SimpleQueue()
    process = context.Process(target=tell, args=(results,))
    process.start()
    process.join(60)
    assert results.get() == os.getpid()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_fork_is_a_worker_and_what_a_shell_has_started_is_none() -> None:
    forks = f"import os, sys\nif os.fork(): os.wait()\nelse:\n    {ASKS}"
    asked = subprocess.run(
        [sys.executable, "-c", forks], capture_output=True, text=True, check=True
    )
    assert asked.stdout.startswith("ParentProcess(pid=")
    shell = f'"{sys.executable}" -c "{ASKS}" & "{sys.executable}" -c "{ASKS}" & wait'
    asked = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["None", "None"]


def test_gunicorn_is_known_by_its_title_too_and_without_proc_by_its_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = {os.getppid(): "gunicorn: master [app]", os.getpid(): "gunicorn: worker [app]"}
    asked: list[ParentProcess | None] = []
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", sys)
    for titles in (commands, {**commands, os.getpid(): "python -m pytest"}, {}):
        monkeypatch.setattr(
            _parent,
            "_read",
            lambda pid, titles=titles: ParentProcess(
                pid, "", tuple(filter(None, [titles.get(pid)]))
            ),
        )
        asked.append(find_parent())
    assert [one is not None for one in asked] == [True, False, True]


NUMBERS = [
    ("uvicorn app:app --workers 4", {}, 4),
    ("python -m uvicorn --workers=3 app:app", {"WEB_CONCURRENCY": "8"}, 3),
    ("python3 -W ignore -Xdev -I -u -m gunicorn -w 2 app:app", {}, 2),
    ("python3.13 -Ximporttime -Werror -Bum uvicorn app:app --workers 3", {}, 3),
    ("pypy3 --check-hash-based-pycs always -mhypercorn app:app -w 4", {}, 4),
    ("python -m uvicorn.__main__ --workers 2 app:app", {}, 2),
    ("python -m coverage run -m gunicorn -w 2 app:app", {}, 2),
    ("python -c pass gunicorn -w 2", {}, None),
    ("python -W", {}, None),
    ("/venv/bin/python /venv/bin/uvicorn app:app", {"WEB_CONCURRENCY": "8"}, 8),
    ("uvicorn app:app", {"UVICORN_WORKERS": "2", "WEB_CONCURRENCY": "8"}, 2),
    ("uvicorn app:app --reload", {"WEB_CONCURRENCY": "8"}, 1),
    ("uvicorn.exe app:app --workers 2", {}, 2),
    ("fastapi run --workers 4", {}, 4),
    ("gunicorn -w 4 app:app", {}, 4),
    ("gunicorn -w2 -w 5 app:app", {}, 5),
    ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "--workers 6 --bind 'x"}, None),
    ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "--workers 6"}, 6),
    ("gunicorn -w 2 app:app", {"GUNICORN_CMD_ARGS": "--workers 6"}, 2),
    ("gunicorn app:app", {}, None),  # it may have a configuration file
    ("hypercorn app:app -w 4", {}, 4),
    ("hypercorn app:app", {"WEB_CONCURRENCY": "8"}, None),  # which it does not read
    ("granian --workers 4 app:app", {}, 4),
    ("granian app:app", {"GRANIAN_WORKERS": "3", "WEB_CONCURRENCY": "8"}, 3),
    ("python main.py --workers 4", {}, None),  # an option of a program that nobody knows
    ("python main.py", {"WEB_CONCURRENCY": "8"}, 8),
    ("python main.py", {"WEB_CONCURRENCY": "0"}, None),
    ("python main.py", {"WEB_CONCURRENCY": "auto"}, None),
    ("", {}, None),
]


def test_how_many_there_should_be_is_what_the_server_goes_by() -> None:
    for line, environ, number in NUMBERS:
        parent = ParentProcess(1, "1", tuple(line.split()))
        assert expected_workers(parent, environ)[0] == number, (line, environ)
    assert expected_workers(None, {"WEB_CONCURRENCY": "4"}) == (4, "WEB_CONCURRENCY")
