"""`run`: the parent of a service that cannot embed the orchestrator."""

import math
import signal
from http import HTTPStatus
from pathlib import PurePath

import anyio

from orchestrator import Orchestrator, Stage
from orchestrator._hardening.log_thread import Log
from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send
from orchestrator._http.hosts import AllowedHosts
from orchestrator._http.responses import as_json, respond
from orchestrator._runtime.event_loop import EventLoop
from orchestrator._runtime.notify_socket import PARENT_SOCKET
from orchestrator.asgi import health_app
from orchestrator.cli._shell.account_chart import account_lines
from orchestrator.cli._shell.asked import Asked, CountedProbe, account_of, orchestrator_of, why
from orchestrator.cli._shell.ending import ENDING, end_by_signal, obeyed
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import BUDGET_SPENT, PERMANENT
from orchestrator.cli._shell.process import given_environment
from orchestrator.cli._shell.startup import is_permanent, load_redis_beside
from orchestrator.cli.run.child import PASSED_ON, STOPS_CMD, Child, become_subreaper
from orchestrator.cli.run.child_reports import ChildReports
from orchestrator.cli.run.notify_server import NotifyServer
from orchestrator.cli.run.run_options import RunOptions, Start
from orchestrator.cli.run.systemd import Notifier, without_notify
from orchestrator.cli.run.terminal import SUSPEND, Terminal, suspend
from orchestrator.health._health_server import HealthServer, open_port, port_of
from orchestrator.web import web_app, web_paths

logger = Log("orchestrator.run")

_PAGE = "/startup"
_TICK_SECONDS = 1.0
_ENDS_BEFORE_CMD = STOPS_CMD | ENDING
"""What ends `run` itself, as long as there is no CMD to pass it on to."""

_PATIENCE_SECONDS = 5.0
"""What systemd is asked for beyond the budget: for CMD to be started, and for a busy machine."""


def run(asked: Asked, options: RunOptions) -> int:
    """Run CMD and stay beside it; return its exit status.

    Raises:
        UserError: When the port or a host cannot be used, or CMD cannot start.
    """
    if options.allowed_hosts is not None:
        try:
            AllowedHosts(options.allowed_hosts)
        except ValueError as error:
            raise UserError(f"--allowed-host: {error}") from None
    startup = orchestrator_of(asked)
    if options.subreaper and not become_subreaper():
        raise UserError("--subreaper is not possible on this system")
    if not asked.name:
        load_redis_beside(asked.settings.redis_url)
    supervisor = _Supervisor(asked, startup, options, Notifier.from_environment())
    status = anyio.run(supervisor.run)
    return end_by_signal(-status) if status < 0 else status


class _Supervisor:
    def __init__(
        self, asked: Asked, startup: Orchestrator, options: RunOptions, notifier: Notifier
    ) -> None:
        self._asked = asked
        self._startup = startup
        for one in asked.counted:
            one.ended = self._asked_once
        self._options = options
        self._notifier = notifier
        self._child = Child()
        self._reports = ChildReports(
            options.command,
            options.child_silent_seconds,
            drain_when_degraded=options.drain_when_degraded,
            changed=self._tell_systemd,
        )
        self._listener: NotifyServer | None = None
        self._terminal = Terminal()
        self._came: list[int] = []
        self._stopping = False
        self._told_ready = self._said_account = False
        self._ended = anyio.Event()
        self._status = 0
        self._error: UserError | None = None

    async def run(self) -> int:
        """Run until CMD has ended, or will never begin.

        Returns:
            The exit status, or the negative number of the signal that ended it.
        """
        options = self._options
        try:
            listeners = await open_port(options.host, options.port)
        except OSError as error:
            raise UserError(error.strerror or str(error)) from None
        logger.info("health endpoints on port %d", port_of(listeners))
        self._listener = self._listen()
        among = {signal.SIGCHLD, *PASSED_ON}
        try:
            with obeyed(self._obey, EventLoop().call, among) as self._came:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(HealthServer(self._health(), listeners).run)
                    async with self._startup:
                        tasks.start_soon(self._follow_stages)
                        tasks.start_soon(self._keep_systemd_informed)
                        if self._listener is not None:
                            tasks.start_soon(self._listener.run)
                        if options.start is Start.AT_ONCE:
                            self._start_command()
                        await self._ended.wait()
                        self._stop()
                    tasks.cancel_scope.cancel()
        finally:
            self._child.pass_on(signal.SIGTERM)  # a fault of ours must not leave it behind
            if self._listener is not None:
                self._listener.close()
        self._terminal.take_back()
        self._terminal.close()
        self._notifier.close()
        if self._error is not None:
            raise self._error
        return self._status

    def _listen(self) -> NotifyServer | None:
        try:
            return NotifyServer(self._reports.heard)
        except OSError as error:
            why = error.strerror or str(error)
            if math.isinf(self._options.child_silent_seconds):
                raise UserError(f"--child-ready reported: {why}") from None
            logger.warning("CMD cannot report how it stands: %s", why)
            return None

    # -- CMD ---------------------------------------------------------------------------------------

    def _start_command(self) -> None:
        """Start CMD, unless it was started, or the end was asked for: this is the only way."""
        if self._child.pid or self._ended.is_set() or not _ENDS_BEFORE_CMD.isdisjoint(self._came):
            return
        try:
            environ = without_notify(given_environment())
            if self._listener is not None:
                environ |= dict.fromkeys(("NOTIFY_SOCKET", PARENT_SOCKET), self._listener.address)
            self._child.start(self._options.command, environ)
        except UserError as error:
            self._error = error
            self._ended.set()
        else:
            self._reports.begin(self._child.pid)
            self._terminal.give_to(self._child.pid)
            logger.info("started %s as process %d", self._options.command[0], self._child.pid)

    def _end(self, status: int) -> None:
        self._status = status
        self._ended.set()

    def _stop(self) -> None:
        """The end has begun: no more readiness, and what falls now is no outage."""
        if not self._stopping:
            self._stopping = True
            self._notifier.send(STOPPING=1, STATUS="stopping")
            self._startup.stop()

    def _obey(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif self._child.pid:
            self._pass_on(number)
        elif number == SUSPEND:
            suspend()
        elif number in _ENDS_BEFORE_CMD and not self._ended.is_set():
            name = signal.Signals(number).name
            logger.warning("stopped by %s before CMD was started", name)
            self._end(-number)

    def _pass_on(self, number: int) -> None:
        if number == signal.SIGCONT:
            self._terminal.give_to(self._child.pid)
        if self._child.pass_on(number) and number in STOPS_CMD:
            self._stop()

    def _reap(self) -> None:
        orphans = self._child.reap()
        if orphans:
            logger.debug("%d orphan(s) had ended", orphans)
        status = self._child.returncode
        if status is not None and not self._ended.is_set():
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            logger.info("process %d has ended %s", self._child.pid, how)
            self._end(status)
        elif self._child.stopped_by:
            self._terminal.stop_with(self._child.stopped_by)

    # -- the stages --------------------------------------------------------------------------------

    async def _follow_stages(self) -> None:
        async for event in self._startup.subscribe():
            if event.current is Stage.READY:
                self._say_account()
                self._start_command()
            elif event.current is Stage.DEGRADED and self._options.exit_when_degraded:
                self._end_before_cmd(PERMANENT if is_permanent(event) else BUDGET_SPENT)
            self._tell_systemd()

    def _tell_systemd(self) -> None:
        """Say how things stand, and once that all is ready: Redis, and CMD by its own words."""
        if self._stopping:
            return
        ready = self._startup.ready and self._child.running and self._reports.ready
        if ready and not self._told_ready:
            self._told_ready = True
            self._notifier.send(READY=1, STATUS=self._in_words())
        else:
            self._notifier.send(STATUS=self._in_words())

    def _say_account(self) -> None:
        if self._options.account and not self._said_account:
            self._said_account = True
            account = account_of(self._asked, self._startup)
            text = "\n".join(["where the start went:", *account_lines(account)])
            logger.info("%s", text, extra={"account": account.as_json()})

    def _asked_once(self, one: CountedProbe) -> None:
        if one.is_permanent and self._options.exit_when_degraded and not self._child.pid:
            logger.error("waiting won't help: %s: %s", one.name, why(one))
            self._end_before_cmd(PERMANENT)

    def _end_before_cmd(self, status: int) -> None:
        if not self._child.pid and not self._ended.is_set():
            self._end(status)

    def _in_words(self) -> str:
        known = self._startup.explain()
        waits = f", waits for {'; '.join(known.waits_for)}" if known.waits_for else ""
        failure = known.last_failure
        why = f" ({failure.reason})" if failure is not None and known.failures_in_row else ""
        child = self._reports.status if self._child.running else ""
        return f"{known.stage}{waits}{why}" + (f"; {child}" if child else "")

    async def _keep_systemd_informed(self) -> None:
        notifier, watchdog = self._notifier, self._notifier.watchdog_seconds
        while True:
            if watchdog and (self._stopping or self._startup.ended is None):
                notifier.send(WATCHDOG=1)
            left = self._startup.explain().budget_left_seconds
            if left is not None and not self._told_ready and not self._stopping:
                seconds = left + self._startup.policy.grace_seconds + _PATIENCE_SECONDS
                usec = int(seconds * 1e6)
                notifier.send(EXTEND_TIMEOUT_USEC=usec, STATUS=self._in_words())
            elif not self._told_ready:
                self._tell_systemd()  # the silence of CMD may have lasted long enough
            await anyio.sleep(min(_TICK_SECONDS, watchdog / 3) if watchdog else _TICK_SECONDS)

    # -- the endpoints -----------------------------------------------------------------------------

    def _health(self) -> ASGIApp:
        health = health_app(
            self._startup,
            details=self._options.details,
            drain_when_degraded=self._options.drain_when_degraded,
            allowed_hosts=self._options.allowed_hosts,
            pod=self._reports,
        )
        page = None
        if self._options.details:
            hosts = self._options.allowed_hosts
            title, pod = self._title(), self._reports
            page = web_app(self._startup, title=title, allowed_hosts=hosts, pod=pod)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"]
            if path == "/readyz" and (self._stopping or not self._child.running):
                await self._unready(scope, send)
            elif page is not None and path in web_paths(_PAGE):
                await page({**scope, "root_path": _PAGE}, receive, send)
            else:
                await health(scope, receive, send)

        return app

    async def _unready(self, scope: Scope, send: Send) -> None:
        why = "the service is stopping" if self._stopping else "CMD is not started yet"
        body = as_json({"status": "fail", "stage": self._startup.stage, "output": why})
        status, kind = HTTPStatus.SERVICE_UNAVAILABLE, "application/health+json"
        await respond(send, status, body, content_type=kind, head=scope["method"] == "HEAD")

    def _title(self) -> str:
        return PurePath(self._options.command[0]).name
