"""The five rules of the house, and a proof that each can be broken.

The rules are checked on the source as text, so that the same checks run on a copy into which a
fault was put: a rule that no fault can break would prove nothing.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

Rule = Callable[[Path], Iterator[str]]

# A room is a module or package of `orchestrator`; what begins with an underscore and stands beside
# these is the core, in layers of its own.
CORE_LAYERS = (
    {"_text", "_arguments", "_errors", "_fork"},
    {"_logging"},
    {"_guard"},
    {"_ports", "_clock", "_tasks", "_signals", "_waiters", "_event_loop", "_health_paths"},
    {"_holding"},
    {
        "_loop_thread",
        "_feed",
        "_conditions",
        "_pacing",
        "_explain",
        "_log",
        "_parts",
        "_prober",
        "_release",
        "_live",
    },
    {"_callbacks", "_driver", "_tally", "_answers", "_hosts", "_turnstile"},
    {"_life"},
    {"_waiting"},
    {"_orchestrator", "_visit"},
    {"_admission"},
)
ADAPTERS = {"settings", "redis", "otel", "asgi", "web", "testing", "websockets", "aiohttp"}
COMMAND_LINE = {"cli", "__main__"}

STATES_MAY_IMPORT = {
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "math",
    "states",
    "transitions",
    "types",
    "typing",
}

# A third-party package is imported in the one room that needs it.
HOMES = {
    "transitions": {"states"},
    "redis": {"redis", "cli"},
    "opentelemetry": {"otel", "cli"},
    "grpc": {"otel"},
    "h11": {"cli"},
    "typer": {"cli"},
    "rich": {"cli"},
    "uvicorn": {"cli"},
    "starlette": {"cli"},
    "websockets": {"cli", "websockets"},
    "aiohttp": {"aiohttp"},
    "pydantic": {"settings"},
    "pydantic_core": {"settings"},
    "pydantic_settings": {"settings"},
    # Each loads it on trio's own event loop only.
    "trio": {"redis", "_waiters", "_signals", "_event_loop"},
    "pytest": {"testing"},
}


LOGGING_CALLS = {
    f"logging.{name}"
    for name in ("getLogger", "debug", "info", "warning", "error", "exception", "critical", "log")
}
LOGGING_SETUP = {"_run_log.py", "_wait.py", "_log.py"}
"""They add handlers and filters to loggers, and log nothing."""

LOCKS = {"Lock", "RLock", "Semaphore", "Condition", "CapacityLimiter"}


def sources(root: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    """Each module of the two packages, with the name of its room."""
    for package in ("states", "orchestrator"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root / package).with_suffix("").parts
            room = "states" if package == "states" else parts[0]
            yield room, path, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """The full names of all imported modules, wherever in the file they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            # `from orchestrator import _x` names a module as well as `import orchestrator._x` does.
            yield module
            if module == "orchestrator":
                yield from (f"orchestrator.{alias.name}" for alias in node.names)


def in_the_core(room: str) -> bool:
    """Whether the room has one task and nothing else; the log has a thread, which feeds nobody."""
    return room != "_logging" and any(room in rooms for rooms in CORE_LAYERS)


def layer_of(room: str) -> int:
    for number, rooms in enumerate(CORE_LAYERS, start=1):
        if room in rooms:
            return number
    if room == "states":
        return 0
    return 90 if room in ADAPTERS else 99


def broken_layers(root: Path) -> Iterator[str]:
    """Rule 1: a layer imports only lower layers, and adapters never import each other."""
    known = set().union(*CORE_LAYERS) | ADAPTERS | COMMAND_LINE | {"states", "__init__"}
    for room, path, tree in sources(root):
        if room not in known:
            yield f"{path.name}: {room} has no layer; give it one"
        if room == "__init__":
            continue
        for name in imports(tree):
            top, _, rest = name.partition(".")
            if top == "states":
                continue
            target = rest.partition(".")[0]
            if top != "orchestrator" or target not in known or target == room:
                continue
            if layer_of(target) >= layer_of(room) and not (
                room in COMMAND_LINE and target in COMMAND_LINE
            ):
                yield f"{path.name}: {room} imports {name}, which is not below it"


def impure_states(root: Path) -> Iterator[str]:
    """Rule 2: time enters `states` only inside facts; no clock, no I/O, no tasks, no logging."""
    for room, path, tree in sources(root):
        if room == "states":
            for name in imports(tree):
                if name.partition(".")[0] not in STATES_MAY_IMPORT:
                    yield f"states/{path.name} imports {name}"


def second_feeders(root: Path) -> Iterator[str]:
    """Rule 3: one task feeds facts, the state is committed before anyone is told; no locks."""
    for room, path, tree in sources(root):
        if room in {"states", "testing"}:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                at = f"{path.name}:{node.lineno}"
                machine = isinstance(node.value, ast.Attribute) and node.value.attr == "_machine"
                if node.attr == "receive" and machine and room != "_driver":
                    yield f"{at} feeds the machine; only the driver may"
                if node.attr == "publish" and "feed" in ast.unparse(node) and room != "_driver":
                    yield f"{at} publishes; only the driver may"
                if node.attr in LOCKS and in_the_core(room):
                    yield f"{at} uses {node.attr}: no locks in the core"
        if room == "_driver":
            yield from told_before_committed(path, tree)


def threads_in_the_core(root: Path) -> Iterator[str]:
    """Rule 3 again: the core has one task and no threads.

    A signal is held back by one, though; and an event loop is given one, in a room that knows
    nothing of facts.
    """
    for room, path, tree in sources(root):
        if in_the_core(room) and room not in {"_signals", "_loop_thread"}:
            for name in imports(tree):
                if name.partition(".")[0] in {"threading", "multiprocessing"}:
                    yield f"{path.name} imports {name}: the core has one task and no threads"


def told_before_committed(path: Path, tree: ast.Module) -> Iterator[str]:
    """In every function that feeds the machine, feeding comes before telling."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines: dict[str, int] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                lines.setdefault(node.attr, node.lineno)
        fed = lines.get("receive")
        for told in ("publish", "call_observers"):
            if fed is not None and lines.get(told, fed) < fed:
                yield f"{path.name}: {function.name} tells before the machine has taken the fact"


def unguarded_listeners(root: Path) -> Iterator[str]:
    """Rule 4: no subscriber or observer can break the machine: each call of one is guarded."""
    for room, path, tree in sources(root):
        if room not in {"_driver", "_orchestrator", "_callbacks"}:
            continue
        guarded: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Try) and any(
                isinstance(handler.type, ast.Name) and handler.type.id == "BaseException"
                for handler in node.handlers
            ):
                guarded.update(range(node.lineno, (node.body[-1].end_lineno or node.lineno) + 1))
            elif isinstance(node, ast.Lambda):
                guarded.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            listens = name in {"observed", "started", "stopped"} and "observer" in ast.unparse(
                called
            )
            if ast.unparse(called) == "guard.call":
                continue  # that is the guard
            if (listens or name in {"callback", "call"}) and node.lineno not in guarded:
                yield f"{path.name}:{node.lineno} calls {name} without a guard"


def unguarded_log_lines(root: Path) -> Iterator[str]:
    """Rule 4 again: no handler of the application can break us: one room makes our log lines."""
    for room, path, tree in sources(root):
        if room == "_logging":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in LOGGING_CALLS:
                setup = isinstance(node.ctx, ast.Load) and path.name in LOGGING_SETUP
                if not setup:
                    yield f"{path.name}:{node.lineno} uses {ast.unparse(node)}; log with _logging"
            elif isinstance(node, ast.ImportFrom) and node.module == "logging":
                yield f"{path.name}:{node.lineno} imports from logging; log with _logging"


def strayed_packages(root: Path) -> Iterator[str]:
    """Rule 5: a third-party package is imported in the one room that needs it."""
    for room, path, tree in sources(root):
        for name in imports(tree):
            top = name.partition(".")[0]
            if top in HOMES and room not in HOMES[top]:
                yield f"{path.name}: {room} imports {name}, which belongs in {sorted(HOMES[top])}"
            elif top not in HOMES and top not in sys.stdlib_module_names | {
                "anyio",
                "orchestrator",
                "states",
            }:
                yield f"{path.name}: {room} imports {name}, which has no home; give it one"


RULES = (
    broken_layers,
    impure_states,
    second_feeders,
    threads_in_the_core,
    unguarded_listeners,
    unguarded_log_lines,
    strayed_packages,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rules_hold(rule: Rule) -> None:
    assert list(rule(ROOT)) == []


FAULTS = [
    (broken_layers, "orchestrator/_feed.py", "from orchestrator._driver import Driver\n"),
    (broken_layers, "orchestrator/settings.py", "import orchestrator.testing\n"),
    (broken_layers, "orchestrator/_errors.py", "from orchestrator import redis\n"),
    (broken_layers, "orchestrator/novelty.py", ""),
    (impure_states, "states/_machine.py", "import time\n"),
    (impure_states, "states/_ledger.py", "from orchestrator import _errors\n"),
    (second_feeders, "orchestrator/_orchestrator.py", "def f(self): self._machine.receive(1)\n"),
    (second_feeders, "orchestrator/_conditions.py", "def f(feed): feed.publish(1)\n"),
    (second_feeders, "orchestrator/_feed.py", "lock = anyio.Lock()\n"),
    (threads_in_the_core, "orchestrator/_driver.py", "import threading\n"),
    (
        second_feeders,
        "orchestrator/_driver.py",
        "def f(self):\n    self._feed.publish(1)\n    self._machine.receive(1)\n",
    ),
    (unguarded_listeners, "orchestrator/_driver.py", "def f(observer): observer.observed(1, 2)\n"),
    (unguarded_listeners, "orchestrator/_callbacks.py", "def f(callback): callback(1)\n"),
    (unguarded_log_lines, "orchestrator/_driver.py", "import logging\nlogging.info('x')\n"),
    (unguarded_log_lines, "orchestrator/redis/_worker.py", "l = logging.getLogger('x')\n"),
    (unguarded_log_lines, "orchestrator/otel/_flush.py", "from logging import getLogger\n"),
    (strayed_packages, "orchestrator/_driver.py", "import redis\n"),
    (strayed_packages, "orchestrator/asgi.py", "import starlette\n"),
    (strayed_packages, "states/_policy.py", "import pydantic\n"),
]


@pytest.mark.parametrize(("rule", "file", "fault"), FAULTS)
def test_each_rule_notices_when_it_is_broken(
    rule: Rule, file: str, fault: str, tmp_path: Path
) -> None:
    for package in ("states", "orchestrator"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    path = tmp_path / file
    if not path.exists() and (path.with_suffix("") / "__init__.py").exists():
        path = path.with_suffix("") / "__init__.py"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(before + "\n" + fault, encoding="utf-8")
    assert list(rule(tmp_path)), f"{rule.__name__} did not notice"


LOADED = """
import sys
import orchestrator, orchestrator.settings, states
orchestrator.Orchestrator  # its names are loaded when they are first used
tops = {name.partition(".")[0] for name in sys.modules}
print(*sorted(tops - set(sys.stdlib_module_names)))
"""


def test_importing_the_package_loads_nothing_but_anyio_and_transitions() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name for name in done.stdout.split() if not name.startswith(("_", "sitecustomize"))}
    # idna, exceptiongroup, sniffio, six and typing_extensions are what these two need themselves.
    own = {"anyio", "transitions", "orchestrator", "states"}
    theirs = {"idna", "exceptiongroup", "sniffio", "six", "typing_extensions", "pkg_resources"}
    assert own <= loaded
    assert loaded <= own | theirs


def test_modules_are_small_enough_to_read() -> None:
    for _, path, _ in sources(ROOT):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 320, f"{path} has {lines} lines; is there a room missing?"
