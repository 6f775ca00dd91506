"""Become another program that dies with its parent, however the parent dies.

A program of its own rather than a function run between fork and exec, which would not be safe in a
process with threads. Linux only; elsewhere the command is run as it is.
"""

import ctypes
import os
import signal
import sys

TYPE_CHECKING = False  # as type checkers know it: the leash is loaded with each server
if TYPE_CHECKING:
    import pwd
    from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`: which signal this process gets when its parent ends."""


def command(words: "Sequence[str]", account: "pwd.struct_passwd | None" = None) -> list[str]:
    """The command line that runs `words` on a leash held by this process.

    Args:
        words: The program and its arguments.
        account: The user that it becomes, where this one is root; this one if not given.
    """
    if sys.platform != "linux" and account is None:
        return list(words)
    user = "" if account is None else f"{account.pw_uid}:{account.pw_gid}"
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), user, *words]


def _main() -> None:
    parent, user, *words = sys.argv[1:]
    if user:
        uid, _, gid = user.partition(":")
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":  # after the user has changed, which takes a leash off
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before the leash was on
        sys.exit(1)
    os.execv(words[0], words)  # noqa: S606  no shell is what is wanted


if __name__ == "__main__":
    _main()
