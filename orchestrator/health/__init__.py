"""Health where no ASGI application answers: the same verdicts, by other ways.

- `serve_health`: `/livez`, `/readyz` and `/startupz` on a port of their own.
- `heartbeat_file`: a file that is fresh while the process is live, for probes that run a command.
- `GrpcHealth`: `grpc.health.v1` on the application's own gRPC server.

All of them, and `orchestrator.asgi.health_app`, read one orchestrator and never disagree.
"""

from orchestrator.health._grpc_service import GrpcHealth
from orchestrator.health._health_port import HealthPort, serve_health
from orchestrator.health._heartbeat_file import heartbeat_file

__all__ = ["GrpcHealth", "HealthPort", "heartbeat_file", "serve_health"]
