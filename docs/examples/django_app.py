"""A Django page that holds its clients until Redis answers.

Run it with `uvicorn django_app:app`. Django itself has no WebSockets. For those of Channels, put
the same gate around the application that routes them.
"""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from orchestrator import Orchestrator
from orchestrator.asgi import ReadinessGate
from orchestrator.redis import RedisProbe

startup = Orchestrator(RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0")))
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])


async def chat(_: HttpRequest) -> HttpResponse:
    """Send the stage: behind the gate it is always ready."""
    return HttpResponse(startup.stage)


urlpatterns = [path("chat", chat)]
app = ReadinessGate(get_asgi_application(), startup, manage_lifespan=True, health=True)
