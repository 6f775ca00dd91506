"""Conditions that keep themselves: checks of any dependency, and supervised tasks.

`Check` and `Task` go into `Orchestrator(conditions=[...])`. The probes here ask what most services
depend on; a probe of your own is a subclass of `orchestrator.Probe`, or a function given to `call`.
"""

from orchestrator.checks._call_probe import call
from orchestrator.checks._check import Check
from orchestrator.checks._file_probe import FileProbe, file
from orchestrator.checks._http_probe import HttpProbe, http
from orchestrator.checks._task import Task
from orchestrator.checks._tcp_probe import TcpProbe, tcp

__all__ = ["Check", "FileProbe", "HttpProbe", "Task", "TcpProbe", "call", "file", "http", "tcp"]
