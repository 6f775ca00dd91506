"""Every fault of the catalogue, met by the real probe on both backends."""

import anyio
import pytest

from states import FailureKind
from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.faults.page import PAGE, page
from tests.faults.running import Outcome, complaints, run_all
from tests.faults.scenes import SECRET


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def outcomes(request: pytest.FixtureRequest) -> dict[str, Outcome]:
    """All faults are met side by side, once for each backend; the tests look at what was seen."""
    return {
        outcome.fault.name: outcome
        for outcome in anyio.run(run_all, FAULTS, backend=str(request.param))
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_told_from_others_in_time(outcomes: dict[str, Outcome], fault: Fault) -> None:
    outcome = outcomes[fault.name]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert complaints(outcome) == []
    assert SECRET not in repr(outcome.failure)


def test_the_catalogue_is_sound() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))
    for fault in FAULTS:
        assert (fault.kind is None) == (not fault.reason) == (not fault.error_type)
        assert fault.connections <= 1, "a failed attempt makes one connection at most"
    assert {fault.kind for fault in FAULTS} == {*FailureKind, None}


def test_the_page_is_the_catalogue() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.faults --page`"
