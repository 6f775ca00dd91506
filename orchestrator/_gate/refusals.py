"""What a gate tells the clients that it turns away, whatever the server."""

from collections.abc import Callable
from random import Random

from orchestrator._gate.hold_queue import Outcome
from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._http.asgi_types import Header
from states import Stage

TRY_AGAIN_LATER = 1013
"""The close code for "try again later" in the IANA registry of WebSocket close codes."""

RESTART = 1012
"""The close code for "service restart" there: a client comes back at once, to another instance."""

PRIVATE_RESTART = 4012
PRIVATE_TRY_AGAIN_LATER = 4013
"""The same from the range for private use: some servers don't let applications send 1013."""

APPLICATION_ERROR = "application_error"
"""Counted instead of a close code when the application raised: the server then picks the code."""

_PAIR = 2

_STOPPING = "The service is stopping."
_DEGRADED = "The service is degraded: something it depends on is not available."
_STARTING = "The service is starting."
# Short enough for the reason of a close.
_NOT_ENTERED = (
    "The start-up never began: use lifespan=lifespan(startup); in tests, with TestClient(app)."
)
HOW_TO_ENTER = (
    "the orchestrator is not entered: give the application lifespan=lifespan(startup), or the gate"
    " manage_lifespan=True, or enter it with `async with startup`; run the server with its lifespan"
    " on. In tests, write `with TestClient(app) as client`, or pretend_stage(startup, 'ready')"
)
"""The same for whoever reads the log."""

_CROWDED = "The service is starting, and too many clients are waiting for it already."


class RetryAfter:
    """Draws the seconds of `Retry-After`, spread so that clients do not return all at once.

    Args:
        seconds: The least and the most, both whole seconds: the header knows no fractions.
        random: The source of the spread; seeded by the system if not given.

    Attributes:
        most: The most seconds that are drawn.
        random: The source of the spread.
        within: The least and the most to draw now; they may change, up to `most`.

    Raises:
        TypeError: When it is not a pair of whole numbers.
        ValueError: When the least is below 0 or above the most.
    """

    def __init__(self, seconds: tuple[int, int], random: Random | None = None) -> None:
        write = "write (1, 3)"
        given: object = seconds
        if not isinstance(given, tuple | list) or len(given) != _PAIR:
            raise wrong_type(given, "retry_after_seconds", "a pair of whole numbers", write)
        least, most = (require(one, int, "retry_after_seconds", write) for one in given)
        if not 0 <= least <= most:
            raise ValueError(
                f"retry_after_seconds is {seconds!r}; it must be (least, most), both 0 or more"
            )
        self.most: int = most
        self.within: Callable[[], tuple[int, int]] = lambda: (least, most)
        # Jitter needs no secrecy.
        self.random: Random = random or Random()

    def draw(self) -> int:
        """The seconds, drawn anew."""
        return self.random.randint(*self.within())


def retry_after_header(seconds: int) -> Header:
    """A `Retry-After` header."""
    return (b"retry-after", str(seconds).encode())


def reason(outcome: Outcome, stage: Stage, stopped: bool, entered: bool) -> str:
    """One line for the client. It names no dependency: those who may know read the health page."""
    if not entered:
        return _NOT_ENTERED
    if stopped:
        return _STOPPING
    if outcome is Outcome.OVERFLOW:
        return _CROWDED
    return _DEGRADED if stage is Stage.DEGRADED else _STARTING
