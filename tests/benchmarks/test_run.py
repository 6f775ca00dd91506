"""What a run of the benchmarks says at its end, and what it starts."""

import os
import sys
import threading
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as suite
from tests.benchmarks.rows import Figure, Results, Row, Verdict

OURS = Figure("ours", (1.0,))
MET = Row(part="fleet", what="a beat", unit="us", ours=OURS, verdicts=(Verdict("1 x", met=True),))
MISSED = Row(part="fleet", what="a fall", unit="us", ours=OURS, verdicts=(Verdict("9 x", False),))


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *rows: Row, failure: str = "") -> int:
    def measured(part: str, results: Results) -> None:
        results.add(rows)
        if failure:
            results.failures[part] = failure

    monkeypatch.setattr(suite, "measure", measured)
    monkeypatch.setattr(suite, "compile_checkout", lambda: None)
    monkeypatch.setattr(sys, "argv", ["", "--only", "fleet", "--output", str(folder)])
    return suite.main()


def test_a_missed_target_is_in_the_last_lines_and_in_the_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, MET, MISSED) == 2
    *_, missed, number = capsys.readouterr().out.splitlines()
    assert (missed, number) == ("missed: fleet: a fall: 9 x", "missed: 1")


def test_a_run_that_meets_all_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, MET) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "missed: 0"


def test_what_could_not_be_measured_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path, MISSED, failure="took longer than 9 s") == 1


def test_parts_that_do_not_disturb_each_other_are_measured_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meeting, met = threading.Barrier(2, timeout=20), []

    def measured(part: str, results: Results) -> None:
        if part in suite.TOGETHER:
            meeting.wait()
        met.append(part)
        results.seconds[part] = 0.0

    monkeypatch.setattr(suite, "measure", measured)
    results = Results({})
    suite.measure_all(["pod", "loss", "scale", "herd"], results)
    assert [met[0], {*met[1:3]}, met[3]] == ["pod", {"loss", "scale"}, "herd"]
    assert set(results.seconds) == {"pod", "loss", "scale", "herd"}


def test_everything_that_is_started_may_use_bytecode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "module.py").write_text("TWO = 2\n")
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setattr(suite, "OURS", ("states",))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    suite.compile_checkout()
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    assert list((tmp_path / "states" / "__pycache__").glob("module.*.pyc"))
