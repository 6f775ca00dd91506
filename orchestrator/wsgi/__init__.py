"""For WSGI applications, such as Flask and Django: `ReadinessGate`.

Example::

    app.wsgi_app = ReadinessGate(app.wsgi_app, startup, health=True)    # Flask
    application = ReadinessGate(get_wsgi_application(), startup, health=True)   # Django

A WSGI application has no event loop, so the gate enters the orchestrator in a thread of its own
(`run_in_thread`), anew in each process: threads do not survive a fork. A gate that was made before
the fork, as with gunicorn's `--preload`, notices that it is in a new process.
"""

from orchestrator.wsgi._wsgi_gate import ReadinessGate

__all__ = ["ReadinessGate"]
