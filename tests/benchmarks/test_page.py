"""The committed page says what the committed figures say."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import glance, page
from tests.benchmarks.rows import Figure, Plot, Results, Row, Series, Verdict

DOCS = Path(__file__).parents[2] / "docs"

ROW = Row(
    part="fan-out",
    what="telling many",
    unit="ms",
    ours=Figure("ours", (1.0, 2.0, 3.0)),
    peers=(Figure("other", (4.0,)),),
    floor=Figure("floor", (1.0,)),
    verdicts=(Verdict("2 x floor (at most 1.5)", met=False), Verdict("0.5 x other", met=True)),
)
PLOT = Plot(
    part="fan-out",
    name="many",
    title="Telling many",
    x_label="subscribers",
    y_label="ms",
    series=(Series("ours", ((1.0, 2.0), (10.0, 20.0))), Series("other", ((1.0, 3.0),))),
)


def results() -> Results:
    return Results(
        {"processor": "2 x test", "date": "2026-01-01"},
        {"fan-out": 1.0, "loss": 2.0},
        [ROW],
        [PLOT],
        {"loss": "ended with 1"},
    )


def test_the_committed_page_is_what_the_committed_figures_give() -> None:
    written = [(DOCS / file).exists() for file in (page.PAGE, page.DATA)]
    assert written in ([True, True], [False, False]), "one of the two was not committed"
    if all(written):
        data = page.read(DOCS)
        text = (DOCS / page.PAGE).read_text(encoding="utf-8")
        assert text == page.markdown(data), "run `make bench ARGS=--notes`"
        assert (DOCS / page.IMAGES / page.GLANCE).exists()
        for plot in data.plots:
            assert (DOCS / page.IMAGES / page.image(plot)).exists()


def test_the_page_shows_tables_verdicts_notes_plots_and_failures(tmp_path: Path) -> None:
    (tmp_path / "fan-out.md").write_text("Why it is missed.\n")
    text = page.markdown(results(), tmp_path)
    assert "| Processor | 2 x test |" in text
    assert "Of 2 targets, 1 are met." in text
    assert "- fan-out: telling many: 2 x floor (at most 1.5)" in text
    assert "**missed**: 2 x floor (at most 1.5)<br>met: 0.5 x other" in text
    assert "Why it is missed.\n" in text
    assert "![Telling many](../images/performance-fan-out-many.svg)" in text
    assert "## loss\n\n**It could not be measured**: ended with 1." in text


def test_results_survive_json() -> None:
    assert Results.from_json(json.loads(json.dumps(results().as_json()))) == results()


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="plots need the extra `bench`"
)
def test_the_same_figures_give_the_same_plot(tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        (folder / "explanation").mkdir(parents=True)
        (folder / "images").mkdir()
        (folder / "images" / "performance-gone.svg").touch()
        page.write(results(), folder)
    first, second = (tmp_path / name / "images" for name in ("one", "two"))
    assert {path.name for path in first.iterdir()} == {page.GLANCE, page.image(PLOT)}
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_every_question_of_the_picture_has_an_answer_with_ours_first() -> None:
    data = page.read(DOCS)
    for question in glance.QUESTIONS:
        row = glance.answer(data, question)
        assert row is not None, question.text
        (_, ours, _), *others = glance.bars(row, question)
        assert ours is row.ours
        assert others, "there is something beside it"


def test_a_run_of_some_parts_leaves_the_others_on_the_page(tmp_path: Path) -> None:
    (tmp_path / page.DATA).parent.mkdir()
    (tmp_path / page.DATA).write_text(json.dumps(results().as_json()))
    new = replace(ROW, part="loss", what="losing few")
    run = Results({"date": "2026-02-02"}, {"loss": 3.0}, [new], [], {})
    whole = page.merged(run, tmp_path, ["loss", "fan-out"])
    assert whole.machine == {"date": "2026-02-02"}
    assert [row.what for row in whole.rows] == ["losing few", "telling many"]
    assert (whole.seconds, whole.failures) == ({"loss": 3.0, "fan-out": 1.0}, {})
    assert whole.plots == [PLOT]
