"""What went wrong, in words fit for a person: exceptions of redis-py to `Failure`.

What Redis itself says is in `_error_replies`. No text of a server is ever copied, since it may hold
anything; only the well-known code words are named. The same goes for the text of exceptions.
"""

from orchestrator._probing.socket_failures import closed, failure_of_socket
from orchestrator.redis._error_replies import is_refusal, of_reply
from orchestrator.redis._errors import AttemptError
from orchestrator.redis._progress import ProbePhase, Situation
from states import Failure, FailureKind

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

OF_TIME = frozenset({"TimeoutError", "ConnectTimeout", "SentinelsUnreachable"})
"""The `error_type` of what more time might have mended."""


def timed_out(at: Situation) -> Failure:
    """The failure of an attempt whose time is up."""
    limit = f"within {at.timeout_seconds:.3g} s"
    reasons = {
        ProbePhase.RESOLVE: f"{at.where}: the name was not resolved {limit};"
        " check the DNS resolver",
        ProbePhase.CONNECT: f"{at.where} did not accept a connection {limit}:"
        " check the address, the firewall and how busy the server is",
        ProbePhase.IMPORT: f"the redis package was not imported {limit}: the machine is very busy",
        ProbePhase.CREDENTIALS: f"the credential provider for {at.where} gave no password {limit}",
        ProbePhase.TLS: f"{at.where} did not finish the TLS handshake {limit}: is TLS on there?",
        ProbePhase.GREETING: f"redis_connect_func did not log in to {at.where} {limit}",
        ProbePhase.SENTINEL: f"the sentinels of {at.where} did not answer {limit}",
        ProbePhase.PING: f"{at.where} gave no answer to {at.asked} {limit},"
        " on an accepted connection",
    }
    # Whoever accepts and does not answer is busy with those who came before, most of the time.
    answering = at.phase in {ProbePhase.TLS, ProbePhase.GREETING, ProbePhase.PING}
    congestion = at.phase is ProbePhase.CONNECT or (at.fresh and answering)
    kind = "ConnectTimeout" if at.phase is ProbePhase.CONNECT else "TimeoutError"
    return Failure(_TRANSIENT, kind, reasons[at.phase], congestion)


def classify(error: Exception, at: Situation) -> Failure:
    """Why an attempt failed, from the exception that ended it."""
    match cause := _cause(error):
        case AttemptError():
            return cause.failure(at)
        case TimeoutError():
            return timed_out(at)
        case OSError():
            connecting = at.phase is ProbePhase.CONNECT
            return failure_of_socket(
                cause, at.where, doing=at.phase, connecting=connecting, plain="use redis://"
            )
        case ImportError():
            reason = "the redis package cannot be imported: install it with `pip install redis`"
            return Failure(_PERMANENT, "ImportError", reason)
        case _ if _is_redis(cause, "ConnectionError") and not is_refusal(cause):
            return closed(at.where, at.phase)
        case _:
            return of_reply(cause, at) or unexpected(cause, at)


def unexpected(error: Exception, at: Situation) -> Failure:
    """The failure of an attempt that ended in an unforeseen way."""
    name = type(error).__name__
    return Failure(_TRANSIENT, name, f"asking {at.where} failed unexpectedly with {name}")


def _cause(error: Exception) -> Exception:
    # redis-py turns what the socket raised into errors of its own whose text is all that is left;
    # the original is their context. Its narrower classes mean a reply, and stay what they are.
    if _is_redis(error, "ConnectionError", "TimeoutError"):
        inner = error.__context__
        if isinstance(inner, OSError | AttemptError):
            return inner
        if type(error).__name__ == "TimeoutError":
            return TimeoutError()
    return error


def _is_redis(error: Exception, *names: str) -> bool:
    """Whether it is exactly one of these classes of redis-py, and none derived from them."""
    kind = type(error)
    return kind.__module__.startswith("redis.") and kind.__name__ in names
