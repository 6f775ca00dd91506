"""The diagram and the reference page say what the table says."""

from pathlib import Path

import pytest

from orchestrator.cli.reference.diagram import mermaid, stages_page
from states import LEGAL, TABLE, Stage

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "stages.md"


def test_the_page_is_what_the_generator_makes() -> None:
    again = "startup-orchestrator diagram --markdown > docs/reference/stages.md"
    assert PAGE.read_text(encoding="utf-8") == stages_page(), f"it drifted; run: {again}"


def test_the_diagram_has_each_row_of_the_table_once() -> None:
    head, first, *edges = mermaid().splitlines()
    assert (head, first.strip()) == ("stateDiagram-v2", "[*] --> booting")
    assert len(edges) == len(TABLE)
    for row, edge in zip(TABLE, edges, strict=True):
        assert edge.strip().startswith(f"{row.source} --> {row.target} : ")
        assert all(fact.__name__ in edge for fact in row.facts)


def test_a_guard_that_is_what_others_leave_over_is_called_otherwise() -> None:
    assert "grace --> degraded : ProbeFailed<br/>[otherwise]" in mermaid()
    assert "[always]" not in mermaid()


@pytest.mark.parametrize("stage", Stage)
def test_each_stage_is_explained_by_its_own_docstring(stage: Stage) -> None:
    lines = stages_page().splitlines()
    line = next(line for line in lines if line.startswith(f"| `{stage}` | "))
    assert line.count("|") == 3
    assert line.endswith(". |")


def test_the_matrix_says_illegal_exactly_where_the_table_does() -> None:
    matrix = stages_page().partition("## What each fact does")[2]
    rows = {
        cells[1].strip().strip("`"): [cell.strip() for cell in cells[2:-1]]
        for cells in (line.split("|") for line in matrix.splitlines())
        if len(cells) == len(Stage) + 3
    }
    for fact in frozenset().union(*LEGAL.values()):
        effects = dict(zip(Stage, rows[fact.__name__], strict=True))
        for stage, effect in effects.items():
            assert (effect == "illegal") == (fact not in LEGAL[stage])
            moves = any(row.source is stage and fact in row.facts for row in TABLE)
            assert effect in (("leads on", "may lead on") if moves else ("counts", "illegal"))
