"""A fleet in words and as JSON."""

from collections.abc import Mapping, Sequence

from orchestrator.fleet._fleet_rows import FleetRow, FleetTotals, fleet_totals
from orchestrator.fleet._news import Instance
from orchestrator.fleet._presence import PresenceVerdict


def totals_lines(service: str, totals: FleetTotals) -> list[str]:
    """The totals: all, and by version where there are several."""
    stages = ", ".join(f"{count} {stage}" for stage, count in totals.by_stage.items())
    others = ", ".join(
        f"{count} {presence}"
        for presence, count in totals.by_presence.items()
        if presence is not PresenceVerdict.ALIVE
    )
    line = f"{service}: {totals.count} instances" + (f": {stages}" if stages else "")
    lines = [line + (f"; {others}" if others else "")]
    if len(totals.by_version) > 1:
        for version, count in totals.by_version.items():
            stages = ", ".join(f"{number} {stage}" for stage, number in count.items())
            lines.append(f"  {version or 'no version'}: {stages}")
    return lines


def row_line(row: FleetRow, unix_now: float) -> str:
    """A row in one line."""
    one = row.instance
    parts = [f"{one.name} ({one.version})" if one.version else one.name]
    parts.append(f"{one.stage} for {age(one.since, unix_now)}")
    if one.presence is not PresenceVerdict.ALIVE:
        parts.append(one.presence)
    if one.state.draining:
        parts.append("draining")
    if row.waits_for:
        parts.append(f"waits for: {row.waits_for}")
    if row.failure:
        parts.append(f"failure: {row.failure}")
    if row.slow_step:
        parts.append(f"slow start: {row.slow_step}")
    return "  ".join(parts)


def age(since: float, unix_now: float) -> str:
    """How long ago, in a few letters; clocks of machines may differ a little."""
    seconds = max(0.0, unix_now - since)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def fleet_json(service: str, rows: Sequence[FleetRow]) -> Mapping[str, object]:
    """A fleet as JSON; durations are in seconds."""
    totals = fleet_totals(row.instance for row in rows)
    return {
        "service": service,
        "count": totals.count,
        "by_stage": totals.by_stage,
        "by_version": totals.by_version,
        "by_presence": totals.by_presence,
        "instances": [
            instance_json(row.instance)
            | {"trouble": row.trouble_since is not None, "slow_step": row.slow_step}
            for row in rows
        ],
    }


def instance_json(instance: Instance) -> dict[str, object]:
    """An instance as JSON."""
    state, failure = instance.state, instance.state.failure
    return {
        "name": instance.name,
        "incarnation": instance.incarnation,
        "version": instance.version,
        "stage": instance.stage,
        "since_unix_seconds": instance.since,
        "sequence": state.entry.sequence,
        "presence": instance.presence,
        "presence_since_unix_seconds": round(instance.presence_since, 3),
        "started_at_unix_seconds": state.started_at,
        "waits_for": state.waits_for,
        "attempts": state.attempts,
        "failures_in_row": state.failures_in_row,
        "failure": failure
        and {"kind": failure.kind, "error_type": failure.error_type, "reason": failure.reason},
        "conditions": {
            name: {"required": one.required, "satisfied": one.satisfied, "reason": one.reason}
            for name, one in state.conditions.items()
        },
        "draining": state.draining,
        "stuck_since_unix_seconds": state.stuck_since,
        "startup_seconds": state.startup_seconds,
        "steps": dict(state.steps),
    }
