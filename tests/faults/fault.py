"""What a fault is: one line of the catalogue."""

from dataclasses import dataclass

from states import FailureKind
from tests.faults.scenes import Stage


@dataclass(frozen=True)
class Fault:
    """One way to fail, and what must be said about it.

    Attributes:
        name: What happens.
        scene: Produces it.
        kind: The kind of failure; `None` where PING succeeds all the same.
        error_type: The failure's `error_type`.
        reason: Its reason, behind the name of the place.
        connections: How many connections one attempt makes.
        stand_in: Whether the other side is scripted, and not a real server.
        warm: Whether an attempt succeeds before the fault is inflicted.
        variants: What some versions of Redis or OpenSSL give instead: kind and `error_type`, or
            `None` where Redis before version 7 answers PING.
        note: What the page says of an attempt that succeeds.
    """

    name: str
    scene: Stage
    kind: FailureKind | None
    error_type: str = ""
    reason: str = ""
    connections: int = 1
    stand_in: bool = False
    warm: bool = False
    variants: tuple[tuple[FailureKind, str] | None, ...] = ()
    note: str = "PING alone does not see it"


def played(
    name: str,
    scene: Stage,
    kind: FailureKind,
    error_type: str,
    reason: str,
    connections: int = 1,
) -> Fault:
    """A fault whose other side is scripted."""
    return Fault(name, scene, kind, error_type, reason, connections, stand_in=True)
