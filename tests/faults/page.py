"""Writes `docs/reference/failures.md` from the catalogue; a test holds the two together."""

from pathlib import Path

from tests.faults.catalogue import GROUPS
from tests.faults.fault import Fault
from tests.faults.running import MOST_OVERSHOOT_SECONDS, TIMEOUT_SECONDS, worded

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "failures.md"

_HEAD = f"""# Failures of Redis

Every way to fail that the probe is tested against, and what it says then. The page is generated
from `tests/faults/catalogue.py`, and each line of it is produced anew in every test run, on asyncio
and on trio: by a real Redis that really is in that state, or, where a line says *played*, by a
scripted server on a real socket. `make faults` prints what it sees, with the time that each took.

- *transient*: Redis may come back by itself. Attempts go on, evenly spaced.
- *permanent*: somebody has to change something first. One attempt is made, and then one every
  `permanent_retry_seconds` (30 s), since secrets rotate.
- An attempt never takes more than {MOST_OVERSHOOT_SECONDS:g} s longer than its
  `attempt_timeout_seconds`, here {TIMEOUT_SECONDS:g} s, whatever the server does.
- *connections* is how many one attempt makes. Attempts fail in their own time, but an accepted
  connection on which the answer is late stays, and the next attempts go on with it: a new one for
  `answer_patience_seconds` (10 s), through TLS, greeting and first answer, and one that has
  answered before for two more attempts. A busy Redis would have worked for nobody otherwise.
- What comes of too many clients (`MaxClients`, a full backlog, and no connection, TLS, greeting or
  first answer in time) is *congestion*: with each further one in a row, attempts are made further
  apart and spread out more, up to `congestion_cap_seconds` (5 s).

`…` stands for the place, such as `redis at 10.0.0.3:6379`. Reasons never hold text of the server, a
password, or a URL.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, faults in GROUPS.items():
        parts.append(f"## {title}\n")
        parts.append(
            "| fault | kind | `error.type` | connections | reason |\n|---|---|---|---|---|"
        )
        parts += [_line(fault) for fault in faults]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _line(fault: Fault) -> str:
    name = fault.name + (" (*played*)" if fault.stand_in else "")
    if fault.kind is None:
        return f"| {name} | answers | | {fault.connections} | {fault.note} |"
    reason = worded(fault, "…") + (" (Redis 6 answers PING)" if None in fault.variants else "")
    return f"| {name} | {fault.kind} | `{fault.error_type}` | {fault.connections} | {reason} |"
