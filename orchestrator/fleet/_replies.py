"""Why Redis refused a call of the fleet, as a failure in our own words.

In a script, Redis 7 begins an error with its code word; Redis 6.2 puts it behind some words of its
own. So the words are looked for, and nothing else of the text is used.
"""

import re

from states import Failure, FailureKind

READONLY = "READONLY"

_WAIT, _LASTS = FailureKind.TRANSIENT, FailureKind.PERMANENT

_IS_READ_ONLY = "is a read-only replica (READONLY)"

_SAID = (
    # The second is said to a reader that waits when its master becomes a replica.
    (f"{READONLY}|UNBLOCKED .*replica", _WAIT, READONLY, _IS_READ_ONLY),
    ("OOM", _WAIT, "OOM", "has no memory left for writing (OOM)"),
    ("MISCONF", _WAIT, "MISCONF", "cannot save to its disk (MISCONF)"),
    ("NOREPLICAS", _WAIT, "NOREPLICAS", "has too few replicas to write (NOREPLICAS)"),
    ("WRONGTYPE", _LASTS, "WRONGTYPE", "has something else under a key of the fleet (WRONGTYPE)"),
    ("NOPERM", _LASTS, "NOPERM", "forbids this user what the fleet needs (NOPERM)"),
    (
        "can't run this command|has no permissions",
        _LASTS,
        "NOPERM",
        "forbids this user what the fleet needs (NOPERM)",
    ),
    ("[Uu]nknown (Redis )?command", _LASTS, "UnknownCommand", "does not know what the fleet needs"),
)
"""What the text has, whether waiting won't help, the `error_type`, and what to say."""


def is_read_only(where: str) -> Failure:
    """Why neither instances nor their readers should stay there."""
    return Failure(_WAIT, READONLY, f"{where} {_IS_READ_ONLY}")


def of_script(text: str, where: str) -> Failure | None:
    """Why a script failed; `None` if its text has none of the words."""
    for words, kind, name, said in _SAID:
        if re.search(words, text):
            return Failure(kind, name, f"{where} {said}")
    return None
