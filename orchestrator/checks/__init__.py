"""Probes of what services depend on besides Redis, for `Check` and for `Orchestrator` itself.

A probe of your own is a subclass of `orchestrator.Probe`, or a function given to `call`.
"""

from orchestrator.checks._call_probe import call
from orchestrator.checks._file_probe import FileProbe, file
from orchestrator.checks._from_url import from_url
from orchestrator.checks._grpc_probe import GrpcProbe, grpc
from orchestrator.checks._http_probe import HttpProbe, http
from orchestrator.checks._kafka_probe import KafkaProbe, kafka
from orchestrator.checks._tcp_probe import TcpProbe, tcp

__all__ = [
    "FileProbe",
    "GrpcProbe",
    "HttpProbe",
    "KafkaProbe",
    "TcpProbe",
    "call",
    "file",
    "from_url",
    "grpc",
    "http",
    "kafka",
    "tcp",
]
