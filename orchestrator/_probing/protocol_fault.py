"""What a probe that speaks a protocol itself finds wrong with an answer or its own options."""

from states import Failure, FailureKind


class ProtocolFault(Exception):
    """What came back is not what was asked for, in words of our own.

    Args:
        error_type: The `error_type` of the failure.
        reason: Its words, with `{where}` for the place.
        permanent: Whether waiting won't help.
        congestion: Whether it is a sign of too many clients.
    """

    def __init__(
        self, error_type: str, reason: str, *, permanent: bool = False, congestion: bool = False
    ) -> None:
        super().__init__(error_type)
        kind = FailureKind.PERMANENT if permanent else FailureKind.TRANSIENT
        self.failure: Failure = Failure(kind, error_type, reason, congestion)
