"""The reference page of the command line, and what the how-tos say that commands print."""

import re
import shlex
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli._shell import exit_codes
from orchestrator.cli.policy.numbers import Hosting, recommended
from states import Policy

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert main(["commands", "--markdown"]) == 0
    again = "startup-orchestrator commands --markdown > docs/reference/command-line.md"
    assert capsys.readouterr().out == page, f"it drifted; run: {again}"


def test_every_exit_status_is_on_it() -> None:
    told = {code for codes, _ in exit_codes.MEANINGS for code in re.findall(r"\d+", codes)}
    known = {value for value in vars(exit_codes).values() if isinstance(value, int)}
    assert {str(value) for value in known} == told


def printed() -> list[tuple[str, str]]:
    """The commands of the how-tos that only compute, and what is said that they print."""
    found = []
    for page in sorted((DOCS / "how-to").glob("*.md")):
        for block in re.findall(
            r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
        ):
            command, _, output = block.removeprefix("$ ").partition("\n")
            if command.startswith("startup-orchestrator check-policy"):
                found.append((command, output))
    return found


@pytest.mark.parametrize(("command", "output"), printed())
def test_what_the_how_tos_show_is_what_is_printed(
    command: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(shlex.split(command)[1:])
    assert capsys.readouterr().out == output


def test_every_command_in_the_how_tos_exists(capsys: pytest.CaptureFixture[str]) -> None:
    names = set()
    for page in (DOCS / "how-to").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        names |= set(re.findall(r"startup-orchestrator ([a-z][a-z-]+)(?= -|`| \[|\n)", text))
    assert {"wait", "run", "check-policy"} <= names
    for name in names:
        assert main([name, "--help"]) == 0, name
    capsys.readouterr()


def test_links_between_these_pages_lead_somewhere() -> None:
    for name in ("wait", "cloud-run", "kubernetes", "systemd"):
        page = DOCS / "how-to" / f"{name}.md"
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{name}: {link}"


def test_the_numbers_in_the_how_tos_are_those_of_the_policy() -> None:
    for name, place, says in (
        ("cloud-run", Hosting.CLOUD_RUN, "failureThreshold: {0.failure_threshold}`"),
        ("kubernetes", Hosting.KUBERNETES, "restarts after {0.window_seconds:g} s"),
        (
            "kubernetes",
            Hosting.KUBERNETES,
            "terminationGracePeriodSeconds: {0.stop_limit_seconds:g}`",
        ),
    ):
        policy = Policy.for_platform(place.platform)
        text = (DOCS / "how-to" / f"{name}.md").read_text(encoding="utf-8")
        assert says.format(recommended(policy, place)) in text
