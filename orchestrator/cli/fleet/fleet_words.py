"""A fleet in words."""

from orchestrator.fleet._fleet_rows import FleetRow, FleetTotals
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
    if row.untold:
        parts.append(row.untold)
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
