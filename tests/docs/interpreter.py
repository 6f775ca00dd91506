"""A process that runs the Python blocks of one page, in one namespace and one event loop.

It has a process of its own, since pages set global providers, take signals and start servers. Each
line on standard input is a block, and each line that comes back says how it went.
"""

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import sys
import traceback
from types import CodeType


def compiled(source: str, file: str, line: int) -> CodeType:
    """The block, with the lines of its page, and `await` allowed at the top level."""
    tree = ast.increment_lineno(ast.parse(source, file), line - 1)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(tree, file, "exec", flags=flags, dont_inherit=True)
    return code


def main() -> None:
    """Run what comes until nothing comes any more."""
    names: dict[str, object] = {"__name__": "page"}
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers, asyncio.Runner() as runner:

        async def run(code: CodeType) -> None:
            result = eval(code, names)  # noqa: S307  a page of our own
            if inspect.isawaitable(result):
                await result

        for block in map(json.loads, sys.stdin):
            printed = io.StringIO()
            failure = ""
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                try:
                    runner.run(run(compiled(**block)))
                except BaseException:  # whatever it is, the page does not work
                    failure = traceback.format_exc()
            answer = {"printed": printed.getvalue(), "failure": failure}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
