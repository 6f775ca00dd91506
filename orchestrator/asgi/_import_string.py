"""Where an application is, as servers take it: `module:attribute`, or `module:factory()`."""

import importlib
import inspect
import re
import sys
from pathlib import Path

from orchestrator._errors import OrchestratorError
from orchestrator._hardening.arguments import require
from orchestrator._hardening.log_thread import logger
from orchestrator._http.asgi_types import ASGIApp
from states._records import record

_FORM = re.compile(r"((?:[^\W\d]\w*\.)*[^\W\d]\w*):((?:[^\W\d]\w*\.)*[^\W\d]\w*)(\(\))?")
_NAME = re.compile(r"[^\W\d]\w{0,40}")
_HARMLESS = re.compile(r"[\w.:()\\-]{0,80}")
"""What is surely no URL, and can be shown in an error."""

_WSGI_ARGUMENTS = 2


class LoadError(OrchestratorError):
    """The application is not where it was said to be, or is no ASGI application.

    Attributes:
        missing_module: Whether there is not even the module.
    """

    def __init__(self, text: str, *, missing_module: bool = False) -> None:
        super().__init__(text)
        self.missing_module: bool = missing_module


class ImportStringError(ValueError):
    """What does not say where an application is.

    Attributes:
        allowed: What it must be instead.
    """

    def __init__(self, text: str) -> None:
        self.allowed: str = "module:attribute, such as chat:app, or module:factory()"
        if _NAME.fullmatch(text):
            self.allowed += f"; did you mean {text}:app?"
        elif text.startswith("."):
            self.allowed += "; a relative name has no package here, so give the full one"
        elif "/" in text or "\\" in text or ".py:" in text:
            self.allowed += "; name the module, and not its file"
        shown = repr(text) if _HARMLESS.fullmatch(text) else "something else"
        super().__init__(f"the application is {shown}; it must be {self.allowed}")


@record
class ImportString:
    """A parsed import string.

    Attributes:
        module: The full name of the module.
        attribute: What it is called there, such as `app` or `api.app`.
        is_factory: Whether that is called, without arguments, to make the application.
    """

    module: str
    attribute: str
    is_factory: bool

    @classmethod
    def parse(cls, text: str) -> "ImportString":
        """Read one.

        Raises:
            TypeError: When it is no `str`.
            ImportStringError: When it has another form.
        """
        require(text, str, "the application", 'write "chat:app", its module and its name')
        found = _FORM.fullmatch(text.strip())
        if found is None or found[1].endswith(".py"):
            raise ImportStringError(text.strip())
        return cls(found[1], found[2], is_factory=found[3] is not None)

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}" + "()" * self.is_factory

    def load(self) -> ASGIApp:
        """Import the module, and return the application.

        Raises:
            LoadError: When module or attribute do not exist, or it is no ASGI application.
            BaseException: Whatever the module raises, and the factory.
        """
        _let_find_working_directory()
        try:
            module: object = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{self.module}.".startswith(f"{error.name}."):
                raise  # it is there, and lacks something itself
            raise LoadError(
                f"the application is {str(self)!r}, and there is no module {error.name!r}: look at"
                " its name, the working directory and PYTHONPATH",
                missing_module=True,
            ) from None
        found = module
        for part in self.attribute.split("."):
            if not hasattr(found, part):
                raise LoadError(f"the application is {str(self)!r}, and has no {part!r} there")
            found = getattr(found, part)
        return self._application(found)

    def _application(self, found: object) -> ASGIApp:
        if not callable(found):
            raise LoadError(f"{self} is a {type(found).__name__}, not an ASGI application")
        if self.is_factory:
            found = found()
        elif (count := _argument_count(found)) == 0:
            logger.warning(
                "%s takes no arguments: it is called as a factory; write %s()", self, self
            )
            found = found()
        if not callable(found):
            made = type(found).__name__
            raise LoadError(f"{self} made a {made}, not an ASGI application")
        count = _argument_count(found)
        if count == _WSGI_ARGUMENTS:
            raise LoadError(
                f"{self} looks like a WSGI application, which takes environ and start_response: run"
                " it with orchestrator.wsgi, or wrap it, such as with asgiref's WsgiToAsgi"
            )
        if count is not None and count < _WSGI_ARGUMENTS:
            raise LoadError(
                f"{self} takes {count} arguments; an ASGI application takes scope, receive and send"
            )
        return found


def _argument_count(found: object) -> int | None:
    """How many arguments must be given to it; `None` where that is not known."""
    try:
        parameters = inspect.signature(found).parameters.values()  # type: ignore[arg-type]  # callable
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)


def _let_find_working_directory() -> None:
    """Servers look for applications there; some of them only while they look for ours."""
    here = str(Path.cwd())
    if not {"", ".", here} & set(sys.path):
        sys.path.append(here)
