"""A file that is fresh while the process is live, for probes that run a command.

The event loop decides that it is time to write, so a loop that is stuck writes nothing and the file
grows old. The writing itself may block, on a disk that hangs: a thread does it, which nothing waits
for. Each time the file is replaced as a whole, so no one reads half of it.
"""

import contextlib
import math
import os
import threading
from functools import partial
from pathlib import Path

import anyio

from orchestrator._core.companions import respond_to
from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import HealthAnswers, Workers
from orchestrator._gate.health_verdict import HealthRules, HealthVerdict
from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.log_thread import Log
from orchestrator._hardening.text import one_line
from orchestrator._http.health_paths import HEALTH_PATHS
from orchestrator._ports import Target
from orchestrator._probing.call_session import CallProbe, failed
from states import Failure

logger = Log("orchestrator.health")

_WRITE_SECONDS = 0.5


class _Writing:
    """Replaces the file by what is to be said, or removes it where there is nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one_at_a_time = threading.Lock()
        self.text = ""
        self.may_exist = False

    def write(self) -> Failure | None:
        """Do it. Called in a thread."""
        try:
            with self._one_at_a_time:
                if self.text:
                    self._replace(self.text)
                else:
                    self._path.unlink(missing_ok=True)
                    self.may_exist = False
        except OSError as error:
            return failed(type(error).__name__, error.strerror or "")
        return None

    def _replace(self, text: str) -> None:
        self.may_exist = True
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            new.write_text(text, encoding="ascii")
            new.replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise


class _HeartbeatFile:
    def __init__(
        self, startup: Orchestrator, path: Path, interval_seconds: float, answers: HealthAnswers
    ) -> None:
        self._startup = startup
        self._path = path
        self._interval_seconds = interval_seconds
        self._answers = answers
        self._failing = False
        self._changed: anyio.Event | None = None

    def changed(self) -> None:
        """The verdict may have changed; on the event loop."""
        if self._changed is not None:
            self._changed.set()

    async def follow(self, events: Subscription) -> None:
        """Runs beside the start-up, on its event loop."""
        writing = _Writing(self._path)
        in_thread = CallProbe(writing.write, Target("file", str(self._path)))
        try:
            await respond_to(events, self.changed, beside=partial(self._beat, writing, in_thread))
        finally:
            writing.text = ""
            try:
                with anyio.CancelScope(shield=True):
                    await in_thread.attempt(_WRITE_SECONDS)
                    if writing.may_exist:  # that was one which had begun before
                        await in_thread.attempt(_WRITE_SECONDS)
                    await in_thread.aclose()
            finally:
                if writing.may_exist:  # the disk hangs, or this was cancelled all the same
                    threading.Thread(target=writing.write, daemon=True).start()

    async def _beat(self, writing: _Writing, in_thread: CallProbe) -> None:
        while True:
            self._changed = anyio.Event()
            verdicts = {path: self._answers.verdict(path)[0] for path in HEALTH_PATHS}
            if verdicts["/livez"] is not HealthVerdict.FAIL:
                lines = [f"{path[1:]} {verdict}" for path, verdict in verdicts.items()]
                writing.text = "\n".join([*lines, f"stage {self._startup.stage}", ""])
                self._say((await in_thread.attempt(_WRITE_SECONDS)).failure)
            with anyio.move_on_after(self._interval_seconds):
                await self._changed.wait()

    def _say(self, failure: Failure | None) -> None:
        """Log the first failure of a row."""
        if failure is not None and not self._failing:
            what = f"{failure.error_type}: {failure.reason}"
            logger.warning("the heartbeat file %s cannot be written: %s", self._path, what)
        self._failing = failure is not None


def heartbeat_file(
    startup: Orchestrator,
    path: str | os.PathLike[str],
    *,
    interval_seconds: float = 5.0,
    drain_when_degraded: bool = False,
    admit_degraded: bool = False,
    pod: Workers | None = None,
) -> None:
    """Keep a file fresh while the process is live, for probes that run a command.

    Example::

        heartbeat_file(startup, "/run/worker/health")

    From the moment the orchestrator is entered, the file is replaced every `interval_seconds` and
    at each change of stage, as long as `/livez` would pass. A stuck event loop lets it grow old;
    when the orchestrator is left, it is removed. In it are the verdicts of all three endpoints::

        livez pass
        readyz fail
        startupz fail
        stage probing_redis

    Args:
        startup: The orchestrator.
        path: Where the file is, best in memory, such as in /run. Its folder must exist, and be
            writable.
        interval_seconds: How often it is written. Take it for stale after three times as long.
        drain_when_degraded: See `orchestrator.asgi.health_app`, as for those that follow.
        admit_degraded: See there.
        pod: See there.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the interval is not above 0, or the path has no file name.
    """
    write = "write heartbeat_file(startup, '/run/worker/health')"
    require(startup, Orchestrator, "startup", write)
    given: object = path
    if not isinstance(given, str | os.PathLike):
        raise wrong_type(given, "path", "a path", write)
    seconds: object = interval_seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise wrong_type(seconds, "interval_seconds", "a number", "give seconds")
    if not 0 < seconds < math.inf:
        raise ValueError(f"interval_seconds is {seconds!r}; it must be above 0")
    file = Path(path)
    if not file.name or "\0" in str(file):
        raise ValueError(f"path is {one_line(str(file))!r}; it must name a file")
    rules = HealthRules(drain_when_degraded=drain_when_degraded, admit_degraded=admit_degraded)
    answers = HealthAnswers(startup, rules, pod=pod)
    heartbeat = _HeartbeatFile(startup, file, interval_seconds, answers)
    startup.accompany(heartbeat.follow)
    startup.on_drain(heartbeat.changed)
