"""Every block and command of every page works, or says why it cannot be run here."""

from pathlib import Path

import pytest

from tests.docs.blocks import Block, Page, PageError, pages, read
from tests.docs.checking import (
    PARSERS,
    SITE_ONLY,
    check,
    check_command,
    check_javascript,
    check_rules,
    hidden_names,
    promql_as_rules,
)
from tests.docs.running import SHELLS, run

PAGES = [read(path) for path in pages()]

LANGUAGES = {*SHELLS, *PARSERS, *SITE_ONLY, "text", "js", "promql"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def check_page(page: Page) -> None:
    """That every block has a language and, where it needs one, a mark; and that all parse."""
    written: set[str] = set()
    for block in page.blocks:
        place = f"{page.name}:{block.line}"
        if block.language not in LANGUAGES:
            raise PageError(f"{place}: no check knows the language {block.language!r}")
        if block.language == "text" and not {"output", "file", "not run"} & set(block.marks):
            raise PageError(f"{place}: text is output, a file or not run; say so above it")
        if "file" in block.marks:
            written.add(block.marks["file"])
        try:
            check(block, written)
        except PageError as error:
            raise PageError(f"{place}: {error}") from None
    if hidden := hidden_names(page.blocks):
        raise PageError(f"{page.name}: who pastes its Python lacks {', '.join(hidden)}")
    for command in page.commands:
        try:
            check_command(command, written)
        except PageError as error:
            raise PageError(f"{page.name}: {error}") from None


def blocks_for_programs() -> list[object]:
    """The blocks that only another program can parse, as parameters of a test."""
    return [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page in PAGES
        for block in page.blocks
        if block.language in {"js", "promql"}
    ]


@each_page
def test_every_block_is_in_a_language_that_is_checked_and_parses(page: Page) -> None:
    check_page(page)


def test_every_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    # One test for all of them, in which each large package is imported once.
    failures = []
    for number, page in enumerate(PAGES):
        directory = tmp_path / str(number)
        directory.mkdir()
        try:
            run(page, directory)
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize("block", blocks_for_programs())
def test_what_other_programs_parse(block: Block) -> None:
    if block.language == "js" and not check_javascript(block.source):
        pytest.skip("there is no Node.js here")
    if block.language == "promql" and not check_rules(promql_as_rules(block)):
        pytest.skip("there is no promtool here")
