"""A Django page under WSGI that holds its clients until Redis answers.

Run it with `gunicorn --threads 4 django_wsgi_app:application`.
"""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from orchestrator import Orchestrator
from orchestrator.redis import RedisProbe
from orchestrator.wsgi import ReadinessGate

startup = Orchestrator(RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0")))
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])


def chat(_: HttpRequest) -> HttpResponse:
    """Send the stage: behind the gate it is always ready."""
    return HttpResponse(startup.stage)


urlpatterns = [path("chat", chat)]
application = ReadinessGate(get_wsgi_application(), startup, health=True, max_held=3)
