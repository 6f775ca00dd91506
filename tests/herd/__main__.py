"""`python -m tests.herd`: simulate instances and clients that come back, and run real ones.

With `--page` it writes docs/explanation/herd.* and the drawings.
"""

import argparse
import sys

from tests.herd import page
from tests.herd.pacing import USUAL
from tests.herd.runs import (
    COMES_BACK,
    OURS,
    REAL,
    SIZES,
    Line,
    clients,
    real,
    real_crowd,
    real_room,
    simulations,
)

PARTS = ("instances", "clients", "crowd", "room", "real")


def tell(line: Line) -> Line:
    """Print it, and pass it on."""
    times = "not back" if line.times is None else f"{line.times:.2f} x"
    head = f"{line.run:14} {line.size:7,} {line.pace:40}"
    print(f"{head} {times:>9}  {line.knocks_each:6.2f} knocks each", flush=True)
    return line


def main() -> int:
    """Return 0; what is not back is a result."""
    parser = argparse.ArgumentParser(prog="python -m tests.herd", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one of them")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="the largest fleet")
    parser.add_argument("--count", type=int, default=1000, help="how many real probers")
    parser.add_argument("--crowd", type=int, default=5000, help="how many real clients")
    parser.add_argument("--page", action="store_true", help="write the page and its drawings")
    chosen = parser.parse_args()
    lines: list[Line] = []
    parts = [chosen.only] if chosen.only else PARTS
    if "instances" in parts:
        lines += map(tell, simulations([size for size in SIZES if size <= chosen.most]))
    if "clients" in parts:
        lines += map(tell, clients())
    if "crowd" in parts:
        lines += [tell(real_crowd(pace, chosen.crowd)) for pace in COMES_BACK]
    if "room" in parts:
        lines += [tell(real_room(pace, chosen.count)) for pace in (OURS, *USUAL)]
    if "real" in parts:
        lines += [
            tell(real(name, chosen.count, known=known)) for name in REAL for known in (True, False)
        ]
    if chosen.page:
        runs = {line.run for line in lines}
        kept = [line for line in page.read() if line.run not in runs]
        page.write([*kept, *lines])
    return 0


if __name__ == "__main__":
    sys.exit(main())
