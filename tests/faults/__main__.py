"""Meet every fault and print what was seen: `python -m tests.faults [asyncio|trio] [--page]`."""

import argparse
import logging
import sys

import anyio

from tests.faults.catalogue import FAULTS
from tests.faults.page import PAGE, page
from tests.faults.running import complaints, run_all, table


def main() -> int:
    """Return 0 if everything was as the catalogue says."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("backend", nargs="?", default="asyncio", choices=["asyncio", "trio"])
    parser.add_argument("--page", action="store_true", help=f"only write {PAGE.name}")
    chosen = parser.parse_args()
    if chosen.page:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)  # the table says it all
    outcomes = anyio.run(run_all, FAULTS, backend=chosen.backend)
    print(table(outcomes))  # the command's output
    wrong = [
        f"{outcome.fault.name}: {said}" for outcome in outcomes for said in complaints(outcome)
    ]
    for line in wrong:
        print(line, file=sys.stderr)  # the command's output
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
