"""The page as text: whether its colours can be read, and that it needs nothing else."""

import re

import pytest

from orchestrator.web._page import render
from states import TABLE, Stage

PAGE = render("Chat").decode()
STAGES = [stage.value for stage in Stage]


def palette(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", PAGE, re.DOTALL)[:2]
    return dict(re.findall(r"--([a-z_]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))


def channels(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def luminance(colour: list[float]) -> float:
    """As WCAG 2.2 defines it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[float], other: list[float]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def tinted(colour: str, ground: str, share: float) -> list[float]:
    pairs = zip(channels(colour), channels(ground), strict=True)
    return [a * share + b * (1 - share) for a, b in pairs]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str) -> None:
    colours = palette(scheme)
    for ground in ("bg", "card", "sunk"):
        for text in ("ink", "muted"):
            assert contrast(channels(colours[text]), channels(colours[ground])) >= 4.5, text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_can_be_seen_and_read_on_its_own_tint(scheme: str, stage: str) -> None:
    colours = palette(scheme)
    tint = tinted(colours[stage], colours["card"], 0.11)
    assert contrast(channels(colours[stage]), channels(colours["card"])) >= 4.5
    assert contrast(channels(colours[stage]), tint) >= 3  # pictures and lines
    for text in ("ink", "muted"):
        assert contrast(channels(colours[text]), tint) >= 4.5


def test_it_knows_every_stage() -> None:
    for table in ("NAMES", "MEANINGS"):
        (entries,) = re.findall(rf"const {table} = \{{(.*?)\}};", PAGE, re.DOTALL)
        assert re.findall(r"(\w+): \"", entries) == STAGES
    for stage in STAGES:
        assert f'id="g-{stage}"' in PAGE


def test_it_draws_the_edges_of_the_table() -> None:
    edges = {f"{row.source}-{row.target}" for row in TABLE}
    for plan in re.findall(r"edges: \{(.*?)\n  \}", PAGE, re.DOTALL):
        assert set(re.findall(r'"(\w+-\w+)":', plan)) == edges


def test_it_is_one_file_that_asks_nobody_else() -> None:
    addresses = set(re.findall(r"https?://[\w./]+", PAGE))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a language
    assert len(PAGE.encode()) < 60_000
