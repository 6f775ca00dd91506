"""`check`: one question to a health endpoint, answered by the exit status."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from orchestrator.cli._shell.errors import Unreachable
from orchestrator.cli._shell.exit_codes import FAILED, OK
from orchestrator.cli._shell.foreign_text import listed, shown
from orchestrator.cli.query.client import HttpAddress, get
from orchestrator.cli.query.waits_for import by_stage, from_page

DEFAULT_PATH = "/readyz"


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """What a health endpoint said.

    Attributes:
        http_status: The status of HTTP.
        status: `pass`, `warn` or `fail`.
        stage: The stage, if the answer has it.
        waits_for: What the service waits for, if the answer has it.
        output: Why it failed beyond the stage, if the answer has it.
    """

    http_status: int
    status: str
    stage: str = ""
    waits_for: tuple[str, ...] = ()
    output: str = ""

    @property
    def exit_status(self) -> int:
        """The exit status."""
        return FAILED if self.status == "fail" else OK

    def as_json(self) -> Mapping[str, object]:
        """For `--json`."""
        return {
            "exit_status": self.exit_status,
            "http_status": self.http_status,
            "status": self.status,
            "stage": self.stage or None,
            "waits_for": self.waits_for,
            "output": self.output or None,
        }

    def __str__(self) -> str:
        stage = f", {self.stage}" if self.stage else ""
        waits = f", waits for: {'; '.join(self.waits_for)}" if self.waits_for else ""
        output = f", {self.output}" if self.output else ""
        return f"{self.status} ({self.http_status}{stage}{output}{waits})"


def check(url: str, timeout_seconds: float) -> HealthAnswer:
    """Ask a health endpoint.

    Raises:
        UserError: When the URL cannot be used, or nothing answers there in time.
    """
    address = HttpAddress.of(url, DEFAULT_PATH)
    answer = get(address, timeout_seconds)
    data = answer.as_object()
    looks_like_json = answer.body.lstrip().startswith((b"{", b"["))
    status: object = (data or {}).get("status", "pass")
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        status = "fail"
    elif not isinstance(status, str) or (data is None and looks_like_json):
        raise Unreachable(f"{address} answered {answer.status} and JSON that cannot be understood")
    elif status not in ("pass", "warn"):
        status = "fail"
    stage, output = (shown((data or {}).get(name) or "") for name in ("stage", "output"))
    waits_for = tuple(listed((data or {}).get("waits_for")))
    if stage and status == "fail" and not waits_for:
        waits_for = from_page(address, timeout_seconds) or by_stage(stage)
    return HealthAnswer(answer.status, str(status), stage, waits_for, output)
