"""For services with several workers: `Pod`, which lets them answer health checks as one.

Example::

    app.add_middleware(ReadinessGate, startup=startup, health=True, pod=Pod())
"""

from orchestrator.pod._pod import Pod

__all__ = ["Pod"]
