"""What one run of the demo hears, put together: for the view, and for the figures."""

from orchestrator.cli.demo.clients import SPREAD_SECONDS, ClientCounts
from orchestrator.cli.demo.figures import RunFigures, StageFigure
from orchestrator.cli.demo.live_figures import Live
from orchestrator.cli.demo.live_view import DemoLines
from orchestrator.cli.demo.reports import (
    DemoReport,
    ListenerReport,
    Listening,
    Protection,
    SpanReport,
    StageReport,
    Status,
)


class Record:
    """Keeps what a run reports.

    Args:
        gate: How early clients are protected.
        connections: How many clients there are.
        view: Gets everything at once.
    """

    def __init__(self, gate: Protection, connections: int, view: DemoLines) -> None:
        self._view = view
        self.live = Live(gate, ClientCounts(connections))
        self.figures = RunFigures(gate, connections)
        self.stages: list[StageReport] = []
        self.spans: list[SpanReport] = []
        self.port: int | None = None
        self.ending = False

    def say(self, at: float, text: str, style: str = "") -> None:
        """Tell the view of something that the service did not report itself."""
        self._view.say(at, text, style)

    def since_start(self, at: float) -> float:
        """Seconds from the start of the service's process."""
        return at - self.live.started_at

    def heard(self, report: DemoReport) -> None:
        """Take a report of the service."""
        match report:
            case Status():
                self.live.status = report
            case SpanReport():
                self.spans.append(report)
            case StageReport():
                self._heard_stage(report)
            case ListenerReport():
                self._heard_listener(report)
            case Listening():
                self.port = report.port
                self.figures.port_open_seconds = self.since_start(report.at)
                self.say(
                    report.at,
                    f"port {report.port} is open: {self.live.tally.clients} clients begin to"
                    f" connect, spread over {SPREAD_SECONDS:g} s",
                )

    def _heard_stage(self, report: StageReport) -> None:
        if not self.stages:
            self.live.stages.append((report.previous, report.at - report.elapsed_seconds))
        self.stages.append(report)
        self.live.stages.append((report.current, report.at))
        self.say(
            report.at,
            f"{report.previous} -> {report.current} after {report.elapsed_seconds:.3f} s:"
            f" {report.cause}",
            report.current,
        )

    def _heard_listener(self, report: ListenerReport) -> None:
        if report.up and self.figures.listener_up_seconds is None:
            self.figures.listener_up_seconds = self.since_start(report.at)
        if report.up:
            self.say(report.at, "the background task is up", "good")
        elif not self.ending:
            why = f": {report.reason}" if report.reason else ""
            self.say(report.at, f"the background task is lost{why}", "bad")

    def conclude(self) -> None:
        """Complete the figures, once nothing more will be reported."""
        figures, tally, status = self.figures, self.live.tally, self.live.status
        figures.served = tally.served
        figures.closes = {str(code): count for code, count in sorted(tally.closes.items())}
        figures.refused = tally.refused
        figures.errors = dict(tally.errors)
        figures.longest_handshake_seconds = tally.longest_handshake_seconds
        figures.max_loop_stall_seconds = status.max_loop_stall_seconds if status else 0.0
        figures.trace_id = next((span.trace_id for span in self.spans if not span.parent_id), None)
        if self.stages:
            first = self.stages[0]
            booted_at = self.since_start(first.at - first.elapsed_seconds)
            figures.stages = [StageFigure(first.previous, max(0.0, booted_at), "")] + [
                StageFigure(stage.current, self.since_start(stage.at), stage.cause)
                for stage in self.stages
            ]
            self._conclude_first_ready()

    def _conclude_first_ready(self) -> None:
        up_seconds = self.figures.redis_up_seconds
        asked = (stage.at_seconds for stage in self.figures.stages if stage.stage != "booting")
        ready = (stage.at_seconds for stage in self.figures.stages if stage.stage == "ready")
        ready_seconds = next(ready, None)
        if up_seconds is not None and ready_seconds is not None:
            # A service that is still booting does not ask yet, and its boot is not Redis' time.
            asked_seconds = max(up_seconds, next(asked, up_seconds))
            self.figures.redis_up_to_ready_seconds = ready_seconds - asked_seconds
