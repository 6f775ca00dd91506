"""What `run` logs on standard error: lines for a person, or JSON for what gathers them."""

import json
import logging
import sys
from datetime import UTC, datetime

from orchestrator._hardening.log_thread import PREFIX
from orchestrator.cli._shell.program import PROGRAM

_FIELDS = {
    name: PREFIX + name
    for name in ("stage", "previous_stage", "stage_sequence", "elapsed_seconds", "account")
}
"""What the log of the stages has besides its text."""


class _JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        data: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        attributes = vars(record)
        data |= {name: attributes[key] for name, key in _FIELDS.items() if key in attributes}
        if record.exc_info:
            data["exception"] = self.formatException(record.exc_info)
        return json.dumps(data)


def log_to_stderr(*, quiet: bool, as_json: bool) -> None:
    """Show what happens as lines on standard error, as other supervisors do."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter(f"%(asctime)s {PROGRAM}: %(message)s")
    handler.setFormatter(_JsonFormatter() if as_json else plain)
    root = logging.getLogger("orchestrator")
    root.addHandler(handler)
    root.setLevel(logging.WARNING if quiet else logging.INFO)
