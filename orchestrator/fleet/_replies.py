"""What Redis says against a call of the publisher, as a failure in our own words.

In a script, Redis 7 begins an error with its code word; Redis 6.2 puts it behind some words of its
own. So the words are looked for, and nothing else of the text is used.
"""

import re

from states import Failure, FailureKind

READONLY = "READONLY"

_WAIT, _LASTS = FailureKind.TRANSIENT, FailureKind.PERMANENT

_SAID = (
    (READONLY, _WAIT, READONLY, "is a read-only replica (READONLY)"),
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


def of_script(text: str, where: str) -> Failure | None:
    """Why a script failed; `None` if its text has none of the words.

    What only waiting helps against counts as congestion: thousands of instances must not ask again
    at the pace at which they would knock.
    """
    for words, kind, name, said in _SAID:
        if re.search(words, text):
            return Failure(kind, name, f"{where} {said}", congestion=kind is _WAIT)
    return None
