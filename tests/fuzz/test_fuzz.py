"""A little of the fuzzing in each run of the tests; `make fuzz` does it for as long as wanted."""

import pytest

from tests.fuzz.subject import Subject
from tests.fuzz.subjects import SUBJECTS

_EXAMPLES = 25


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_whatever_comes_in_what_must_hold_holds(subject: Subject) -> None:
    subject.fuzz(_EXAMPLES)
