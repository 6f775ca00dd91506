"""The five rules of the house, and a proof that each can be broken.

The rules are checked on the source as text, so that the same checks run on a copy into which a
fault was put: a rule that no fault can break would prove nothing.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

Rule = Callable[[Path], Iterator[str]]

# A room is a folder or a module at the top of `orchestrator`. Those whose names begin with an
# underscore lie upon each other in this order; all others are adapters, but for those above them:
# the fleet, the settings and the command line.
FLOORS = (
    "states",
    "_errors",
    "_hardening",
    "_ports",
    "_http",
    "_runtime",
    "_probing",
    "_core",
    "_gate",
)
TOP = {"cli", "__main__", "auto"}
ABOVE_ADAPTERS = ("fleet", "settings")
"""The fleet reaches Redis as the probe does; the settings make probes of URLs, and the fleet."""

STATES_MAY_IMPORT = {
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "inspect",
    "math",
    "operator",
    "states",
    "transitions",
    "types",
    "typing",
}

# A third-party package is imported in the one room that needs it.
IMPORTED_IN = {
    "transitions": {"states"},
    "redis": {"redis", "fleet", "cli"},
    "opentelemetry": {"otel", "cli"},
    "grpc": {"otel", "health"},
    "h2": {"checks"},
    "h11": {"health"},
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
    "trio": {"_runtime", "_probing", "_core", "redis", "fleet"},
    # Loaded where the application has made an engine with it.
    "sqlalchemy": {"checks"},
    "pytest": {"testing"},
}


LOGGING_CALLS = {
    f"logging.{name}"
    for name in ("getLogger", "debug", "info", "warning", "error", "exception", "critical", "log")
}
LOGGING_SETUP = {"child_log.py", "startup.py", "log_limit.py"}
"""They add handlers and filters to loggers, and log nothing."""

LOCKS = {"Lock", "RLock", "Semaphore", "Condition", "CapacityLimiter"}


@cache
def parsed(text: str) -> ast.Module:
    """A module, parsed once for all the copies that the faults are put into."""
    return ast.parse(text)


def sources(root: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    """Each module of the two packages, with the name of its room."""
    for package in ("states", "orchestrator"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root / package).with_suffix("").parts
            room = "states" if package == "states" else parts[0]
            yield room, path, parsed(path.read_text(encoding="utf-8"))


def name_of(path: Path, root: Path) -> str:
    """The module's full name; that of a package has no `__init__` at its end."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


def floor_of(room: str) -> int:
    """How high a room lies; all adapters lie equally high."""
    if room in FLOORS:
        return FLOORS.index(room)
    if room in TOP:
        return len(FLOORS) + 1 + len(ABOVE_ADAPTERS)
    return len(FLOORS) + (1 + ABOVE_ADAPTERS.index(room) if room in ABOVE_ADAPTERS else 0)


def room_of(module: str) -> str:
    """The room that a module is in."""
    top, _, rest = module.partition(".")
    return "states" if top == "states" else rest.partition(".")[0]


def broken_layers(root: Path) -> Iterator[str]:
    """Rule 1: a room imports only what lies lower, and adapters never import each other."""
    rooms = {room for room, _, _ in sources(root)}
    for room, path, tree in sources(root):
        if room.startswith("_") and room not in {*FLOORS, *TOP, "__init__"}:
            yield f"{path.name}: {room} has no floor; give it one"
        if room == "__init__":
            continue
        for name in imports(tree):
            target = room_of(name)
            if name.partition(".")[0] not in ("states", "orchestrator") or target not in rooms:
                continue
            if floor_of(target) < floor_of(room) or target == room or {room, target} <= TOP:
                continue
            yield f"{path.name}: {room} imports {name}, which does not lie below it"


def circles(root: Path) -> Iterator[str]:
    """Rule 1 within each room: modules that are loaded together import each other in no circle."""
    needs: dict[str, set[str]] = {}
    for room, path, tree in sources(root):
        name = name_of(path, root)
        if room != "__init__" and path.name != "__init__.py":
            statements: list[ast.stmt] = [
                node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            needs[name] = set(imports(ast.Module(statements, [])))
    while leaves := [name for name, its in needs.items() if not its & needs.keys()]:
        for name in leaves:
            del needs[name]
    for name, its in needs.items():
        yield f"{name} is in a circle with, or needs one of, {sorted(its & needs.keys())}"


def impure_states(root: Path) -> Iterator[str]:
    """Rule 2: time enters `states` only inside facts; no clock, no I/O, no tasks, no logging."""
    for room, path, tree in sources(root):
        if room == "states":
            for name in imports(tree):
                if name.partition(".")[0] not in STATES_MAY_IMPORT:
                    yield f"states/{path.name} imports {name}"


DRIVER = Path("orchestrator/_core/driver.py")
IN_ONE_TASK = {"_errors", "_ports", "_probing", "_core", "_gate"}
"""The rooms of the start-up itself."""
WITH_A_THREAD = {
    Path("orchestrator/_probing/worker.py"),
    Path("orchestrator/_probing/interruption.py"),
}
"""What blocks has a thread, which feeds nobody."""


def second_feeders(root: Path) -> Iterator[str]:
    """Rule 3: one task feeds facts, the state is committed before anyone is told; no locks."""
    for room, path, tree in sources(root):
        if room in {"states", "testing"}:
            continue
        here = path.relative_to(root)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                at = f"{path.name}:{node.lineno}"
                machine = isinstance(node.value, ast.Attribute) and node.value.attr == "_machine"
                if node.attr == "receive" and machine and here != DRIVER:
                    yield f"{at} feeds the machine; only the driver may"
                if node.attr == "publish" and "feed" in ast.unparse(node) and here != DRIVER:
                    yield f"{at} publishes; only the driver may"
                if node.attr in LOCKS and room in IN_ONE_TASK and here not in WITH_A_THREAD:
                    yield f"{at} uses {node.attr}: no locks in the core"
        if here == DRIVER:
            yield from told_before_committed(path, tree)


def threads_in_the_core(root: Path) -> Iterator[str]:
    """Rule 3 again: the core has one task and no threads."""
    for room, path, tree in sources(root):
        if room in IN_ONE_TASK and path.relative_to(root) not in WITH_A_THREAD:
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
        if room != "_core":
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
            if ast.unparse(called) in ("guard.call", "self.loop.call"):
                continue  # that is the guard, and what is run elsewhere
            if (listens or name in {"callback", "call"}) and node.lineno not in guarded:
                yield f"{path.name}:{node.lineno} calls {name} without a guard"


LOG_MODULES = {"log_thread.py", "log_handlers.py", "quiet_engine.py"}


def unguarded_log_lines(root: Path) -> Iterator[str]:
    """Rule 4 again: no handler of the application can break us: one room makes our log lines."""
    for _, path, tree in sources(root):
        if path.name in LOG_MODULES:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in LOGGING_CALLS:
                setup = isinstance(node.ctx, ast.Load) and path.name in LOGGING_SETUP
                if not setup:
                    yield f"{path.name}:{node.lineno} uses {ast.unparse(node)}; use log_thread"
            elif isinstance(node, ast.ImportFrom) and node.module == "logging":
                yield f"{path.name}:{node.lineno} imports from logging; use log_thread"


def strayed_packages(root: Path) -> Iterator[str]:
    """Rule 5: a third-party package is imported in the one room that needs it."""
    for room, path, tree in sources(root):
        for name in imports(tree):
            top = name.partition(".")[0]
            if top in IMPORTED_IN and room not in IMPORTED_IN[top]:
                belongs = sorted(IMPORTED_IN[top])
                yield f"{path.name}: {room} imports {name}, which belongs in {belongs}"
            elif top not in IMPORTED_IN and top not in sys.stdlib_module_names | {
                "anyio",
                "orchestrator",
                "states",
            }:
                yield f"{path.name}: {room} imports {name}, which has no home; give it one"


RULES = (
    broken_layers,
    circles,
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
    (broken_layers, "orchestrator/settings.py", "import orchestrator.cli\n"),
    (broken_layers, "orchestrator/checks/_check.py", "import orchestrator.settings\n"),
    (broken_layers, "orchestrator/checks/_from_url.py", "import orchestrator.redis\n"),
    (broken_layers, "orchestrator/redis/_url.py", "import orchestrator.fleet\n"),
    (broken_layers, "orchestrator/fleet/_wire.py", "import orchestrator.settings\n"),
    (broken_layers, "orchestrator/_errors.py", "from orchestrator import redis\n"),
    (broken_layers, "orchestrator/_novelty.py", ""),
    (broken_layers, "orchestrator/_core/feed.py", "import orchestrator._gate.admission\n"),
    (broken_layers, "orchestrator/_gate/counts.py", "from orchestrator import asgi\n"),
    (broken_layers, "orchestrator/web/_page.py", "from orchestrator import cli\n"),
    (circles, "orchestrator/_core/feed.py", "from orchestrator._core.driver import Driver\n"),
    (circles, "orchestrator/redis/_url.py", "from orchestrator.redis._probe import RedisProbe\n"),
    (impure_states, "states/_machine.py", "import time\n"),
    (impure_states, "states/_counters.py", "from orchestrator import _errors\n"),
    (
        second_feeders,
        "orchestrator/_core/orchestrator.py",
        "def f(self): self._machine.receive(1)\n",
    ),
    (second_feeders, "orchestrator/_core/conditions.py", "def f(feed): feed.publish(1)\n"),
    (second_feeders, "orchestrator/_core/feed.py", "lock = anyio.Lock()\n"),
    (threads_in_the_core, "orchestrator/_core/driver.py", "import threading\n"),
    (
        second_feeders,
        "orchestrator/_core/driver.py",
        "def f(self):\n    self._feed.publish(1)\n    self._machine.receive(1)\n",
    ),
    (
        unguarded_listeners,
        "orchestrator/_core/driver.py",
        "def f(observer): observer.observed(1, 2)\n",
    ),
    (unguarded_listeners, "orchestrator/_core/callbacks.py", "def f(callback): callback(1)\n"),
    (unguarded_log_lines, "orchestrator/_core/driver.py", "import logging\nlogging.info('x')\n"),
    (unguarded_log_lines, "orchestrator/_probing/worker.py", "l = logging.getLogger('x')\n"),
    (unguarded_log_lines, "orchestrator/otel/_flush.py", "from logging import getLogger\n"),
    (strayed_packages, "orchestrator/_core/driver.py", "import redis\n"),
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


MOST_LINES = 300


def test_modules_are_small_enough_to_read() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for _, path, _ in sources(ROOT)
    }
    assert {path for path, number in lines.items() if number > MOST_LINES} == set()
