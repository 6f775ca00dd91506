"""Calling what the application gave us, whatever it raises."""

from collections.abc import Callable
from functools import partial

from orchestrator._errors import ends_process
from orchestrator._hardening.log_thread import logger

_MOST_KINDS = 4
"""So many types of exceptions of one thing are logged, each once."""


class CallGuard:
    """Survives what one thing of the application's raises: says it once, and counts.

    Args:
        what: What it is, such as `callback`.
        called: The thing itself.

    Attributes:
        failures: How many times it has raised.
    """

    def __init__(self, what: str, called: object) -> None:
        self.name = f"{what} {name_of(called)}"
        self.failures = 0
        self._told: set[type[BaseException]] = set()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a plain function of it. Nothing is awaited, so no cancellation is meant for us."""
        try:
            function(*args)
        except BaseException as error:  # see `caught`
            self.caught(error)

    def caught(self, error: BaseException) -> None:
        """It has raised this.

        Raises:
            BaseException: The error itself, if it asks for the end of the process.
        """
        if ends_process(error):
            raise error
        self.failures += 1
        kind = type(error)
        if kind not in self._told and len(self._told) < _MOST_KINDS:
            self._told.add(kind)
            logger.error(
                "%s raised %s; it is called again the next time, and this is logged only once",
                self.name,
                kind.__name__,
                error=error,
            )

    def sum_up(self) -> None:
        """It is called no more: say how many times it has raised."""
        if self.failures > 1:
            logger.warning("%s raised %d times in all", self.name, self.failures)
        self.failures = 0


def name_of(thing: object) -> str:
    """What to call a function or an object in the log.

    Its `repr` might raise, or hold a secret: that of a `partial` has all arguments in it.
    """
    while isinstance(thing, partial):
        thing = thing.func
    try:
        named = thing if isinstance(getattr(thing, "__qualname__", None), str) else type(thing)
        return f"{named.__module__}.{named.__qualname__}"  # type: ignore[attr-defined]  # as was asked
    except Exception:  # a proxy may raise for everything
        return type(thing).__name__
