"""`python -m tests.fuzz`: fuzz every input for a given time, and say what was found."""

import argparse
import sys
import time
import traceback

from tests.fuzz.subject import Subject
from tests.fuzz.subjects import SUBJECTS

_ROUND = 100
"""So many inputs in each round; each round begins with other ones."""


def _fuzzed(subject: Subject, seconds: float) -> tuple[int, str]:
    """How many inputs held, and what the first that did not has shown."""
    ends_at, held = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        try:
            subject.fuzz(_ROUND)
        except Exception:  # whatever it is, it is what was looked for
            return held, traceback.format_exc()
        held += _ROUND
    return held, ""


def main() -> int:
    """Fuzz; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long, for all together")
    parser.add_argument("--only", default="", help="a part of the names of those that are wanted")
    options = parser.parse_args()
    wanted = [subject for subject in SUBJECTS if options.only in subject.name]
    found = []
    for subject in wanted:
        held, failure = _fuzzed(subject, options.seconds / len(wanted))
        print(
            f"{subject.name:45} {held:7} held{', and one did not' * bool(failure)}", flush=True
        )  # a report
        found += [failure] if failure else []
    for failure in found:
        print(f"\n{failure}")  # a report
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
