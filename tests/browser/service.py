"""A service with a status page, to be stopped, frozen and killed while a browser looks at it.

`python -m tests.browser.service PORT`: its Redis answers at once, and no real one is needed.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from orchestrator import Orchestrator
from orchestrator.asgi import lifespan
from orchestrator.testing import ScriptedProbe
from orchestrator.web import web_app


def main(port: int) -> None:
    """Serve until stopped."""
    startup = Orchestrator(ScriptedProbe())
    routes = [Mount("/startup", web_app(startup, title="Chat"))]
    app = Starlette(routes=routes, lifespan=lifespan(startup))
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))
