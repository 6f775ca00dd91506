"""The parts of the demo that need no processes: verdict, file of figures, waterfall, reports."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.demo.choices import DemoOptions
from orchestrator.cli.demo.figures import FiguresFile, RunFigures, StageFigure, shortcomings
from orchestrator.cli.demo.flow import shows_traces
from orchestrator.cli.demo.full.falls import (
    FallFigure,
    FullFigures,
    fall_shortcomings,
    promised_of_a_check,
    promised_of_a_connection,
    promised_of_a_task,
)
from orchestrator.cli.demo.reports import (
    ConditionReport,
    DemoReport,
    Listening,
    OrderReport,
    SpanReport,
    Status,
    decode,
    encode,
)
from orchestrator.cli.demo.service_process import last_words
from orchestrator.cli.demo.waterfall import lay_out, traces
from states import Policy

STAGES = ["booting", "probing_redis", "grace", "ready", "degraded", "grace", "ready"]


def a_good_run() -> RunFigures:
    return RunFigures(
        gate="gate",
        clients=200,
        served=200,
        closes={"1000": 200},
        stages=[StageFigure(stage, float(at), "") for at, stage in enumerate(STAGES)],
        kill_to_degraded_seconds=0.4,
        restart_to_grace_seconds=0.9,
        restart_to_ready_seconds=1.4,
        served_after_recovery=True,
    )


def wrong_in(run: RunFigures, *, outage: bool = True) -> list[str]:
    return shortcomings(run, outage=outage, grace_seconds=0.5)


def test_a_run_that_keeps_what_is_promised_has_no_shortcomings() -> None:
    assert wrong_in(a_good_run()) == []


def test_more_stages_than_expected_are_no_shortcoming() -> None:
    run = a_good_run()
    again = [StageFigure("probing_redis", 2.1, ""), StageFigure("grace", 2.2, "")]
    run.stages[3:3] = again
    assert wrong_in(run) == []


def test_without_an_outage_only_the_start_is_expected() -> None:
    run = a_good_run()
    del run.stages[4:]
    assert wrong_in(run, outage=False) == []
    (wrong,) = wrong_in(run)
    assert wrong.startswith("the stages were booting, probing_redis, grace, ready; expected")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("closes", {"1011": 1}, "1 connections were closed with 1011"),
        ("closes", {"1006": 2}, "2 connections were closed with 1006"),
        ("served", 199, "only 199 of 200 clients were served"),
        ("kill_to_degraded_seconds", 0.6, "degraded after Redis was killed: 0.600 s"),
        ("restart_to_grace_seconds", 1.1, "grace after Redis was back: 1.100 s"),
        ("restart_to_ready_seconds", 1.6, "ready after Redis was back: 1.600 s"),
        ("served_after_recovery", False, "after the recovery was not served"),
    ],
)
def test_each_promise_that_is_not_kept_is_named(field: str, value: object, says: str) -> None:
    run = a_good_run()
    setattr(run, field, value)
    (wrong,) = wrong_in(run)
    assert says in wrong


def a_fall(
    noticed_seconds: float = 0.5, ready_seconds: float = 1.0, served: int = 10
) -> FallFigure:
    return FallFigure("billing", "killed", noticed_seconds, 0.6, ready_seconds, 10, served)


def test_each_fall_has_a_promise_that_is_computed_from_the_policy() -> None:
    policy = Policy(probe_interval_seconds=2.0, failures_to_degrade=5, retry_jitter=0.5)
    by_connection = promised_of_a_connection(policy)
    assert by_connection == pytest.approx(4 * 0.1 * 1.5 + 0.3)
    assert promised_of_a_check(policy) == pytest.approx(2.0 * 1.5 + by_connection)
    assert promised_of_a_task(1.0) - promised_of_a_task() == pytest.approx(1.0)
    assert fall_shortcomings(FullFigures("full", 5, falls=[a_fall()])) == []


@pytest.mark.parametrize(
    ("fall", "says"),
    [
        (a_fall(0.7), "the fall of billing was noticed after 0.700 s, more than 0.60"),
        (a_fall(ready_seconds=9.0), "billing was back, and ready only 9.000 s later"),
        (a_fall(served=8), "2 clients were lost while billing was down"),
    ],
)
def test_a_fall_that_was_noticed_late_or_lost_a_client_is_named(
    fall: FallFigure, says: str
) -> None:
    (wrong,) = fall_shortcomings(FullFigures("full", 5, falls=[a_fall(), fall]))
    assert says in wrong


def test_the_figures_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old", encoding="utf-8")
    file = FiguresFile(path)
    assert path.read_text(encoding="utf-8") == "old"
    file.write([a_good_run()], [])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["passed"] is True
    assert written["runs"][0]["stages"][3] == {"stage": "ready", "at_seconds": 3.0, "cause": ""}
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_the_file_of_figures_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real.json")
    FiguresFile(link).write([], [])
    assert link.is_symlink()
    assert (tmp_path / "real.json").is_file()


@pytest.mark.parametrize(
    "report",
    [
        Listening(1.5, 8080),
        ConditionReport(1.0, "billing", holds=False, reason="it said no"),
        OrderReport(1.0, {"outbox": ["billing"]}),
        Status(1.0, 0.02, "grace", 3, "refused", ["Redis to answer"], 5, 6, 7),
    ],
)
def test_reports_travel_as_one_line_each(report: DemoReport) -> None:
    line = encode(report)
    assert line.count(b"\n") == 1
    assert decode(line) == report


def span(name: str, start: int, end: int, *, parent: str = "", trace: str = "t") -> SpanReport:
    return SpanReport(trace, name, parent, name, start, end, [], "")


def test_a_waterfall_puts_children_below_their_parents_and_bars_where_they_lie() -> None:
    spans = [
        span("late", 60, 100, parent="root"),
        span("inner", 10, 11, parent="early"),
        span("early", 0, 50, parent="root"),
        span("root", 0, 100),
    ]
    drawn = lay_out(spans, 10)
    assert [row.label for row in drawn.rows] == ["root", "  early", "    inner", "  late"]
    assert [(row.first, row.cells) for row in drawn.rows] == [(0, 10), (0, 5), (1, 1), (6, 4)]


def test_a_waterfall_shows_the_spans_events() -> None:
    root = SpanReport("t", "root", "", "root", 0, 4_000_000, [("e", 2_000_000, "a -> b")], "")
    drawn = lay_out([root], 8)
    assert drawn.rows[0].marks == (4,)
    (event,) = drawn.events
    assert (event.offset_milliseconds, event.text) == (2.0, "a -> b")


def test_a_trace_without_any_length_can_be_drawn() -> None:
    (row,) = lay_out([span("root", 5, 5)], 8).rows
    assert (row.first, row.cells) == (0, 1)


def test_traces_are_kept_apart_in_the_order_of_their_arrival() -> None:
    spans = [span("a", 5, 6, trace="x"), span("b", 1, 2, trace="y"), span("c", 5, 9, trace="x")]
    assert [[each.name for each in trace] for trace in traces(spans)] == [["a", "c"], ["b"]]


IN_USE = "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 80): in use"


@pytest.mark.parametrize(
    ("log", "wanted"),
    [
        ("", "nothing"),
        ("INFO: a\nINFO: b\n\n", "INFO: b"),
        (f"INFO: a\n{IN_USE}\nERROR: Application shutdown failed. Exiting.\n", IN_USE),
        ("Traceback:\n  x\nValueError: no\nINFO: Waiting for shutdown.\n", "ValueError: no"),
    ],
)
def test_the_last_words_are_those_that_name_the_cause(log: str, wanted: str) -> None:
    assert last_words(log) == wanted


@pytest.mark.parametrize(
    ("traces", "terminal", "lines", "shown"),
    [
        (False, True, 60, True),
        (False, True, 59, False),
        (False, False, 100, False),
        (True, True, 24, True),
        (True, False, 24, True),
    ],
)
def test_traces_are_shown_where_they_fit_or_are_wanted(
    traces: bool, terminal: bool, lines: int, shown: bool
) -> None:
    console = Console(force_terminal=terminal, width=100, height=lines)
    options = DemoOptions(1, 0.0, 0.0, 0.0, 0, outage=False, traces=traces)
    assert shows_traces(options, console) == shown
