"""For Redis: `RedisProbe`, which asks a Redis whether it answers, on asyncio and on trio.

Example::

    from orchestrator.redis import RedisProbe

    startup = Orchestrator(RedisProbe("redis://localhost:6379/0"))

Importing this does not import redis-py: the probe does, when it finds a server for the first time.
"""

from orchestrator.redis._expect import Expect
from orchestrator.redis._probe import RedisProbe

__all__ = ["Expect", "RedisProbe"]
