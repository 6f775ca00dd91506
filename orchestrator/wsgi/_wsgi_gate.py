"""The gate for WSGI: holds requests in the server's threads, as many as it can spare.

The orchestrator runs in a thread with an event loop of its own. A companion of the start-up wakes
the threads of held requests at each change of stage, and each of them decides again. A fork copies
none of these threads, so each process enters the orchestrator with its first request, or in a hook
after the fork.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.counts import AdmissionCounts, GateStats
from orchestrator._gate.health_answers import HealthAnswers, Workers
from orchestrator._gate.health_verdict import HealthRules
from orchestrator._gate.hold_queue import Outcome
from orchestrator._gate.holding import check_number
from orchestrator._gate.refusals import RetryAfter
from orchestrator._hardening.arguments import paths_of, require, require_flag, wrong_type
from orchestrator._hardening.log_thread import Log
from orchestrator._http.health_paths import BYPASS, HEALTH_PATHS, condition_in, passes
from orchestrator._runtime import drain_signal
from orchestrator._runtime.fork import forget_in_child
from orchestrator._runtime.loop_thread import LoopThread
from orchestrator.wsgi._prefork import (
    NO_THREADS,
    hear_in_other_threads,
    hears_signals,
    lacks_threads,
    unbegun,
)
from orchestrator.wsgi._threads_inside import ThreadsInside
from orchestrator.wsgi._wsgi_admission import WsgiAdmission
from orchestrator.wsgi._wsgi_responses import ask_for_close, respond

logger = Log("orchestrator.wsgi")

# What PEP 3333 leaves open: environments hold anything, and servers pass a callable of their own.
WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_WRITE = "write ReadinessGate(app, startup)"


class ReadinessGate:
    """WSGI middleware that holds, admits or refuses by the stage of the start-up.

    In `ready` requests pass. Before it they are held, until ready or their limit; in `degraded`
    they are refused at once. A held request takes up a thread of the server, and health checks need
    one, too: so only `max_held` are held at a time, and none at all where a process handles one
    request at a time, as gunicorn's sync worker does. A refusal is a 503 with a jittered
    `Retry-After`. At SIGTERM it drains, where the server lets Python handle that.

    Args:
        app: The application behind the gate.
        startup: The orchestrator.
        hold_seconds: How long a request may wait for ready; 0 refuses at once.
        max_held: How many may wait at once in each process. Keep it below the number of threads.
        admit_degraded: Admit in `degraded` too.
        bypass: Paths that pass in every stage.
        health: Answer `/livez`, `/readyz` and `/startupz` here.
        details: Tell what the service waits for on the health endpoints.
        drain_when_degraded: Fail `/readyz` when a service that was ready is degraded.
        pod: The workers of this service, which then answer `/readyz` and `/startupz` as one:
            `orchestrator.pod.Pod()`.
        run_in_thread: Enter the orchestrator with the first request of each process, unless it was
            entered there already. See `start` for a hook that does it earlier.
        retry_after_seconds: The least and the most of `Retry-After`, in seconds; 300 in a crowd.
        stop_on_sigterm: Drain when SIGTERM or SIGINT arrives, as `Orchestrator.drain` says, and run
            the server's own handler then. The orchestrator runs in another thread, so the main
            thread has to make this gate or call `start`, as it does under gunicorn.
        on_admission: Called with the outcome of each request: `admitted`, `refused`, `overflow` or
            `timed_out`; from several threads.

    Raises:
        TypeError: When an argument is of the wrong type, as when the first two are swapped.
        ValueError: When a number is out of range, or `pod` is given without `health`.
    """

    # As the other gates: every argument after the second has a name and a default.
    def __init__(  # noqa: PLR0913  as said above
        self,
        app: WSGIApp,
        startup: Orchestrator,
        *,
        hold_seconds: float = 5.0,
        max_held: int = 1,
        admit_degraded: bool = False,
        bypass: Collection[str] = BYPASS,
        health: bool = False,
        details: bool = False,
        drain_when_degraded: bool = False,
        pod: Workers | None = None,
        run_in_thread: bool = True,
        retry_after_seconds: tuple[int, int] = (1, 3),
        stop_on_sigterm: bool = True,
        on_admission: Callable[[str], object] | None = None,
    ) -> None:
        given: object = app
        if isinstance(given, Orchestrator) or not callable(given):
            raise wrong_type(given, "app", "a WSGI application", _WRITE)
        self._app = app
        self._startup: Orchestrator = require(startup, Orchestrator, "startup", _WRITE)
        check_number("hold_seconds", hold_seconds, 0)
        check_number("max_held", max_held, 0)
        if pod is not None and not health:
            raise ValueError("pod needs health=True: health endpoints answer for the workers")
        self._bypass = paths_of(bypass)
        self._admission = WsgiAdmission(
            startup,
            hold_seconds,
            max_held,
            RetryAfter(retry_after_seconds),
            GateStats(on_admission, None, None),
            admit_degraded=require_flag(admit_degraded, "admit_degraded"),
        )
        self._details = require_flag(details, "details")
        self._health: HealthAnswers | None = None
        if require_flag(health, "health"):
            rules = HealthRules(
                drain_when_degraded=drain_when_degraded, admit_degraded=admit_degraded
            )
            self._health = HealthAnswers(
                startup, rules, retry_after_seconds=retry_after_seconds, pod=pod
            )
        self._manages = require_flag(run_in_thread, "run_in_thread")
        self._thread: LoopThread[Orchestrator] | None = None
        self._never = NO_THREADS if self._manages and lacks_threads() else ""
        self._begin_anew()
        self._threads = ThreadsInside(startup, self._admission.wake)
        if require_flag(stop_on_sigterm, "stop_on_sigterm") and hears_signals():
            self._threads.hear_signals()
        forget_in_child(self)
        unbegun.add(self)
        hear_in_other_threads()
        startup.accompany(self._follow)
        if self._admission.cannot:
            logger.error("every request will be refused: %s", self._admission.cannot)

    def _begin_anew(self) -> None:
        self._process = 0
        self._is_behind = False  # the server's handler of signals
        self._admission.begin_anew(self._never)
        self._starting = threading.Lock()  # another one: the loop's thread wakes while we wait

    # -- state -------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many requests are held now, in this process."""
        return self._admission.held

    @property
    def counts(self) -> AdmissionCounts:
        """How many requests had which outcome so far, in this process."""
        return self._admission.stats.counts

    @property
    def closes(self) -> Counter[int | str]:
        """WSGI has no WebSockets, so none were closed."""
        return self._admission.stats.closes

    def start(self) -> None:
        """Enter the orchestrator in this process, unless it was entered here already.

        The first request does it, too, and so does the fork of gunicorn with `--preload` and of
        uWSGI. Elsewhere call it in the server's hook after a fork, such as gunicorn's
        `post_worker_init`, to begin before the first request. Calling it twice does no harm.
        """
        with self._starting:
            if self._process == os.getpid():
                return
            unbegun.discard(self)
            drain_signal.catch()
            forget_in_child(self)
            # A fork's child has a thread's remains, and no thread.
            if self._manages and not self._admission.cannot and self._startup.never_ran_here:
                self._thread = self._startup.run_in_thread()
                try:
                    self._thread.start()
                except Exception as error:  # it is logged, and requests are refused
                    self._admission.cannot = "The start-up could not begin."
                    logger.error("the orchestrator could not be entered", error=error)
            self._process = os.getpid()

    def close(self) -> None:
        """Leave the orchestrator, if this gate has entered it; so does the end of the process."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def forked(self) -> None:
        """This process is a new one: nothing was entered here, and nothing is held."""
        self._thread = None
        self._begin_anew()
        self._threads.begin_anew()

    # -- requests ----------------------------------------------------------------------------------

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Handle one request."""
        if self._process != os.getpid():
            self.start()
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode(errors="replace")
        if self._health is not None and (path in HEALTH_PATHS or condition_in(path)):
            query, method = environ.get("QUERY_STRING", ""), environ["REQUEST_METHOD"]
            report = self._health.answer(path, method, query, details=self._details)
            return respond(report, environ, start_response)
        raw = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "")
        if passes(path, self._bypass, raw=raw.partition("?")[0], websocket=False):
            return self._app(environ, start_response)
        self._threads.enter()  # before it is decided: a drain must not end in between
        if self._admission.is_open():
            self._admission.count(Outcome.ADMITTED)
            return self._run(environ, start_response)
        self._threads.leave()
        with self._threads.deciding():
            self._threads.put_in_front()
            outcome = self._admission.decide(bool(environ.get("wsgi.multithread")))
            self._admission.count(outcome)
            if outcome is not Outcome.ADMITTED:
                if self._startup.draining:
                    ask_for_close(start_response)
                return respond(self._admission.refuse(outcome), environ, start_response)
            self._threads.enter()
        return self._run(environ, start_response)

    def _run(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let the application work; it was counted as inside before."""
        if not self._is_behind:
            self._is_behind = True
            self._threads.put_in_front()
        if self._startup.draining:
            ask_for_close(start_response)
        try:
            body = self._app(environ, start_response)
        except BaseException:
            self._threads.leave()
            raise
        return self._threads.until_sent(body, environ.get("wsgi.file_wrapper"))

    async def _follow(self, events: Subscription) -> None:
        """Runs beside the start-up, and wakes those who are held."""
        try:
            async for _ in events:
                self._admission.wake()
        finally:
            self._admission.wake()
            self._admission.stats.sum_up()
