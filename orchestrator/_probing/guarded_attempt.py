"""Guards the prober against what a probe raises or returns: it may be the application's own."""

from collections.abc import Awaitable, Callable

from orchestrator._hardening.log_thread import logger
from orchestrator._ports import ProbeResult
from orchestrator._runtime.tasks import came_by_signal, must_pass
from states import Failure, FailureKind

Ask = Callable[[], Awaitable[ProbeResult]]


async def guarded_attempt(ask: Ask, name: str, now: Callable[[], float]) -> ProbeResult:
    """Make an attempt. If the probe raises, or returns no `ProbeResult`, that is a failure.

    Args:
        ask: Makes the attempt.
        name: What the probe is called.
        now: The time.
    """
    began_at = now()
    try:
        result = await ask()
    except BaseException as error:
        # `sys.exit()` is a failure, too, unless it is meant for the process.
        left = isinstance(error, SystemExit) and not came_by_signal(error)
        if must_pass(error) and not left:
            raise
        what = type(error).__name__
    else:
        if isinstance(result, ProbeResult):
            return result
        what = f"no ProbeResult but {type(result).__name__}"  # type: ignore[unreachable]  # not every probe is type-checked
    # Only the type is logged, without a traceback: the text may hold a URL with a password.
    logger.error("the probe %s gave %s; taken as a failed attempt", name, what)
    failure = Failure(FailureKind.TRANSIENT, what.split()[-1], f"the probe itself gave {what}")
    return ProbeResult(now() - began_at, failure)
