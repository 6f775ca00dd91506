"""A status page for people: what the service is doing, live, in a browser.

Example::

    app.mount("/startup", web_app(startup))

The page is one file without any dependency. Beside it are `/state`, the same as JSON, and
`/events`, the same as a stream of server-sent events.
"""

from orchestrator.web._mount import web_mount
from orchestrator.web._status_app import web_app, web_paths

__all__ = ["web_app", "web_mount", "web_paths"]
