"""Probes of what services depend on besides Redis, for `Check` and for `Orchestrator` itself.

A probe of your own is a subclass of `orchestrator.Probe`, or a function given to `call`. Those
here are loaded when they are first used, so that you never pay for the others.
"""

from orchestrator._hardening.lazy_names import lazy_names

# As type checkers know it: `typing` alone would take most of the time of this import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.checks._amqp.amqp_probe import AmqpProbe, amqp
    from orchestrator.checks._call_probe import call
    from orchestrator.checks._file_probe import FileProbe, file
    from orchestrator.checks._from_url import from_url
    from orchestrator.checks._grpc_probe import GrpcProbe, grpc
    from orchestrator.checks._http_probe import HttpProbe, http
    from orchestrator.checks._kafka.kafka_probe import KafkaProbe, kafka
    from orchestrator.checks._postgres.postgres_probe import PostgresProbe, postgres
    from orchestrator.checks._tcp_probe import TcpProbe, tcp

__all__ = [
    "AmqpProbe",
    "FileProbe",
    "GrpcProbe",
    "HttpProbe",
    "KafkaProbe",
    "PostgresProbe",
    "TcpProbe",
    "amqp",
    "call",
    "file",
    "from_url",
    "grpc",
    "http",
    "kafka",
    "postgres",
    "tcp",
]

_MODULES = {
    "_amqp.amqp_probe": ("AmqpProbe", "amqp"),
    "_call_probe": ("call",),
    "_file_probe": ("FileProbe", "file"),
    "_from_url": ("from_url",),
    "_grpc_probe": ("GrpcProbe", "grpc"),
    "_http_probe": ("HttpProbe", "http"),
    "_kafka.kafka_probe": ("KafkaProbe", "kafka"),
    "_postgres.postgres_probe": ("PostgresProbe", "postgres"),
    "_tcp_probe": ("TcpProbe", "tcp"),
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES, globals())
