"""`check`: one question to a health endpoint, answered by the exit status."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from orchestrator.cli._client import Address, get
from orchestrator.cli._exit_codes import FAILED, OK

DEFAULT_PATH = "/readyz"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a health endpoint said.

    Attributes:
        http_status: The status of HTTP.
        status: `pass`, `warn` or `fail`.
        stage: The stage, if it was told.
        waits_for: What the service waits for, if it was told.
        output: Why it failed beyond the stage, if it was told.
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


def check(url: str, timeout_seconds: float) -> Checked:
    """Ask a health endpoint.

    Raises:
        UserError: When the URL cannot be used, or nobody answers there in time.
    """
    answer = get(Address.of(url, DEFAULT_PATH), timeout_seconds)
    told = answer.as_object() or {}
    good = HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES
    status = str(told.get("status", "pass"))
    if not good or status not in ("pass", "warn"):
        status = "fail"
    waits = told.get("waits_for")
    waits_for = tuple(map(str, waits)) if isinstance(waits, list) else ()
    stage, output = str(told.get("stage") or ""), str(told.get("output") or "")
    return Checked(answer.status, status, stage, waits_for, output)
