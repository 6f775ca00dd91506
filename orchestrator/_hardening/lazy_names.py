"""Names of a package that are loaded when they are first asked for."""

from collections.abc import Callable, Collection, Mapping
from importlib import import_module


def lazy_names(
    package: str, modules: Mapping[str, Collection[str]], namespace: dict[str, object]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package.

    Give them to it where no type checker looks: with `__getattr__` it would take every name for
    known.

    Args:
        package: Its full name.
        modules: For each module below it, the public names that are there.
        namespace: Its `globals()`.
    """
    module_of = {name: home for home, names in modules.items() for name in names}

    def load(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{module_of[name]}"), name)
        namespace[name] = value  # the next time it is found without this function
        return value

    return load, lambda: sorted({*namespace, *module_of})
