"""Writes `docs/reference/failures.md` from the catalogue; a test holds the two together."""

from pathlib import Path

from tests.faults.catalogue import GROUPS
from tests.faults.fault import Fault
from tests.faults.running import MOST_OVERSHOOT_SECONDS, TIMEOUT_SECONDS, worded

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "failures.md"

_HEAD = f"""# Failures of Redis

Every way to fail that the probe is tested against, and what it reports. The page is generated from
`tests/faults/catalogue.py`, and every test run produces each line anew, on asyncio and trio: with a
real Redis that really is in that state or, where a line says *played*, with a scripted server on a
real socket. `make faults` prints what it sees, and how long each took.

- *transient*: Redis may come back by itself. Attempts continue, evenly spaced.
- *permanent*: someone has to change something first. There is one attempt, and then one every
  `permanent_retry_seconds` (30 s), since secrets rotate.
- Something that answers in another protocol is permanent, for this probe and for every probe of
  `orchestrator.checks`: only another address or another server helps (`InvalidResponse`, or
  `TlsMismatch` if only TLS is wrong). A server that closes the connection or stays silent is
  transient, since a busy or stopping one does that too. So Redis asked over AMQP, which waits for
  the end of a line, is a time-out. `tests/checks/test_wrong_servers.py` asks each kind of server
  with every probe.
- An attempt never overruns its `attempt_timeout_seconds`, here {TIMEOUT_SECONDS:g} s, by more
  than {MOST_OVERSHOOT_SECONDS:g} s, whatever the server does.
- *connections* is how many one attempt makes. Each attempt fails on time, but an accepted
  connection with a late answer stays open, and the next attempts reuse it: a new one for
  `answer_patience_seconds` (10 s), through TLS, greeting and first answer, and one that has
  answered before for two more attempts. Otherwise a busy Redis would never get to answer anyone.
- Signs of too many clients (`MaxClients`, a full backlog, and no connection, TLS, greeting or
  first answer in time) are *congestion*: with each further one in a row, attempts come further
  apart and spread out more, up to `congestion_cap_seconds` (5 s).
- A *void* attempt is in no table. It ran out of time because this process did not run (a paused
  container, C code that holds the interpreter), so it says nothing about Redis: it counts as
  neither success nor failure, and is repeated at once. At most five in a row are void; the next
  one counts.

`…` stands for the address, such as `redis at 10.0.0.3:6379`. Reasons never contain text from the
server, a password, or a URL.
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
