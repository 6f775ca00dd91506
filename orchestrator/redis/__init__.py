"""For Redis: `RedisProbe`, which asks a Redis whether it answers, on asyncio and on trio.

Example::

    from orchestrator.redis import RedisProbe

    startup = Orchestrator(RedisProbe("redis://localhost:6379/0"))

Importing this does not import redis-py. On plain TCP and Unix sockets, a probe made from a URL
needs none; for TLS and all that a client brings, it imports redis-py once it finds a server.
"""

from orchestrator.redis._expect import Expect
from orchestrator.redis._probe import RedisProbe

__all__ = ["Expect", "RedisProbe"]
