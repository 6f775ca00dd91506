"""What can go wrong when the orchestrator is used; every text says what to do."""


def ends_process(error: BaseException) -> bool:
    """Whether an exception asks for the end of the process, by itself or among others.

    Ctrl-C and `sys.exit` in a signal's handler arrive in whatever runs just then. Everything else
    that code of the application raises, stray cancellations among it, ends nothing.
    """
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup((KeyboardInterrupt, SystemExit)) is not None
    return isinstance(error, KeyboardInterrupt | SystemExit)


def name_of_only(error: BaseException) -> str:
    """The type of an exception, or of the only one in a group. Its text may hold a secret."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    return type(error).__name__


class OrchestratorError(Exception):
    """The base of all errors of the orchestrator."""


class NotRunning(OrchestratorError):  # named after the state, as in anyio and trio
    """Used before `async with orchestrator` was entered, or after it was left."""


class AlreadyStarted(OrchestratorError):
    """An orchestrator was entered, or changed, while it runs: leave it first."""


class UnknownCondition(OrchestratorError, LookupError):
    """A condition that was never declared."""


class DuplicateCondition(OrchestratorError, ValueError):
    """A condition that was declared, or entered, twice."""


class ConditionOrderError(OrchestratorError, ValueError):
    """Conditions that come after each other in a circle, or after one that was never declared."""


class Stopped(OrchestratorError):
    """The orchestrator was left while a stage was still awaited."""


class StartupTimeout(OrchestratorError, TimeoutError):
    """A stage was not reached in time. The text names what it still waited for."""


class WrongThread(OrchestratorError):
    """Used from another thread than the event loop's."""
