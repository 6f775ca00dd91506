"""What tests need: time that moves on command, a Redis that follows a script, and assertions.

Example::

    run = virtual_startup("refused x3, loading 5s, ok")
    async with run.startup:
        await run.clock.advance(10)
    run.stages.assert_went("booting", "probing_redis", "grace", "ready")

With pytest the same are fixtures: `virtual_startup`, `scripted_redis`, `manual_clock`, `stage_log`
and `pretend_stage`. Nothing here needs pytest but the plugin itself.
"""

from orchestrator.testing._manual_clock import ManualClock
from orchestrator.testing._pretend import Pretence, pretend
from orchestrator.testing._script import REFUSED, WORDS, WRONG_PASSWORD, ScriptError
from orchestrator.testing._scripted_probe import ScriptedProbe
from orchestrator.testing._stage_log import StageLog
from orchestrator.testing._virtual import VirtualStartup, virtual_startup

__all__ = [
    "REFUSED",
    "WORDS",
    "WRONG_PASSWORD",
    "ManualClock",
    "Pretence",
    "ScriptError",
    "ScriptedProbe",
    "StageLog",
    "VirtualStartup",
    "pretend",
    "virtual_startup",
]
