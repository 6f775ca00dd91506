"""The exit statuses of the commands. `docs/reference/command-line.md` is generated from this."""

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 2
PERMANENT = 78
BUDGET_SPENT = 124
NOT_EXECUTABLE = 126
NOT_FOUND = 127
SIGNALLED = 128

MEANINGS: tuple[tuple[str, str], ...] = (
    (f"{OK}", "it went well; with a CMD, the status of CMD takes its place"),
    (
        f"{FAILED}",
        (
            "`check`: the service fails; `drain`: nothing to drain; `check-policy`: numbers"
            " cannot work; `demo`: failed; `fleet --until-ready`: too many instances were not ready"
            " in their budget; the output cannot be written"
        ),
    ),
    (
        f"{USAGE}",
        (
            "wrong usage or settings; `check`, `explain`: no answer, or one that makes no sense;"
            " `fleet`: Redis can't be asked;"
            " `watch`: the service has no status page, or its events make no sense"
        ),
    ),
    (
        f"{PERMANENT}",
        (
            "`wait`, `run --exit-when-degraded`, `fleet --until-ready`: waiting won't help, as with"
            " a wrong password"
        ),
    ),
    (
        f"{BUDGET_SPENT}",
        (
            "the time is up, as with `timeout(1)`: `drain`, `wait`, `run --exit-when-degraded`,"
            " `fleet --until-ready`, `watch --timeout`, which waits for a service that does not"
            " answer"
        ),
    ),
    (f"{NOT_EXECUTABLE}", "CMD was found and cannot be executed, as in a shell"),
    (f"{NOT_FOUND}", "CMD was not found, as in a shell"),
    (
        f"{SIGNALLED}+n",
        (
            "ended by signal n: by that same signal; process 1 ends with this status. If the reader"
            " of the output is gone, the signal is SIGPIPE"
        ),
    ),
)
"""Each status, and what it means, in Markdown."""
