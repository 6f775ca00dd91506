"""Conditions that keep themselves: checks of any dependency, and supervised tasks.

`Check` and `Task` go into `Orchestrator(conditions=[...])`. The probes here ask what most services
depend on; a probe of your own is a subclass of `orchestrator.Probe`, or a function given to `call`.
"""

from orchestrator.checks._check import Check
from orchestrator.checks._task import Task
from orchestrator.checks.call import call
from orchestrator.checks.file import FileProbe, file
from orchestrator.checks.http import HttpProbe, http
from orchestrator.checks.tcp import TcpProbe, tcp

__all__ = ["Check", "FileProbe", "HttpProbe", "Task", "TcpProbe", "call", "file", "http", "tcp"]
