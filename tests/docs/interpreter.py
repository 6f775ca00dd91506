"""Runs the Python blocks of pages: each page has a process, a namespace and an event loop.

A page needs its own process, since pages set global providers, take signals and start servers. Most
of what such a process would do is to import the same large packages. So there is one parent that
imports what a page imports, and then forks; it does nothing else, has no thread and no event loop.

The parent takes one order in each line of standard input, and answers each in one line:

- `{"fork": ...}`: start a page's process; the answer is its id.
- `{"poll": PID}`: its exit status, or null as long as it runs.

The page's process connects to the port that it is given. Each line from there is a block, and each
line that goes back says how it went.
"""

import ast
import asyncio
import atexit
import contextlib
import gc
import importlib
import inspect
import io
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import NamedTuple, NoReturn, TextIO


class Fork(NamedTuple):
    """What a page's process is to be."""

    directory: str
    environ: Mapping[str, str]
    path: list[str]
    imports: list[str]
    port: int


def imported(sources: Iterable[str]) -> list[str]:
    """The modules that these sources import; none of a source that does not parse."""
    found: dict[str, None] = {}
    for source in sources:
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Import):
                    found |= dict.fromkeys(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    found[node.module or ""] = None
    return list(found)


def compiled(source: str, file: str, line: int) -> CodeType:
    """The block, with the lines of its page, and `await` allowed at the top level."""
    tree = ast.increment_lineno(ast.parse(source, file), line - 1)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(tree, file, "exec", flags=flags, dont_inherit=True)
    return code


def run_blocks(blocks: TextIO, answers: TextIO) -> None:
    """Run what comes until nothing comes any more."""
    names: dict[str, object] = {"__name__": "page"}
    with asyncio.Runner() as runner:

        async def run(code: CodeType) -> None:
            result = eval(code, names)  # noqa: S307  a page of our own
            if inspect.isawaitable(result):
                await result

        for block in map(json.loads, blocks):
            printed = io.StringIO()
            failure = ""
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                try:
                    runner.run(run(compiled(**block)))
                except BaseException:  # whatever it is, the page does not work
                    failure = traceback.format_exc()
            answer = {"printed": printed.getvalue(), "failure": failure}
            print(json.dumps(answer), file=answers, flush=True)


def be_page(fork: Fork) -> None:
    """Be the process of one page."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # orders are for the parent
    os.dup2(2, 1)  # and so are answers
    os.chdir(fork.directory)
    os.environ.clear()
    os.environ.update(fork.environ)
    sys.path[:0] = fork.path
    with (
        socket.create_connection(("127.0.0.1", fork.port)) as channel,
        channel.makefile("r", encoding="utf-8") as blocks,
        channel.makefile("w", encoding="utf-8") as answers,
    ):
        run_blocks(blocks, answers)


def leave() -> NoReturn:
    """End as any process, but for taking apart the packages, which would take longest of all."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    os._exit(0)


def polled(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    """Be the parent."""
    for order in map(json.loads, sys.stdin):
        if "poll" in order:
            print(json.dumps(polled(order["poll"])), flush=True)
            continue
        fork = Fork(**order["fork"])
        for module in fork.imports:
            with contextlib.suppress(Exception):  # a file of the page, or a fault of it: it says so
                importlib.import_module(module)
        gc.freeze()  # the packages are left alone by the collector of each page
        pid = os.fork()
        if not pid:
            be_page(fork)
            leave()
        print(pid, flush=True)


if __name__ == "__main__":
    main()
