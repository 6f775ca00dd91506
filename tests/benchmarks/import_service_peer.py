"""The same service with redis-py and OpenTelemetry set up by hand, as their documentation has it.

`import_service_peer.py FD REDIS_URL`
"""

import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import redis.asyncio
import uvicorn
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

resource = Resource.create({"service.name": "bench"})
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracers)
reader = PeriodicExportingMetricReader(OTLPMetricExporter())
metrics.set_meter_provider(MeterProvider([reader], resource=resource))
startup_seconds = metrics.get_meter("bench").create_histogram("startup.duration", "s")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    """Waits for Redis, before the port is open."""
    client = redis.asyncio.Redis.from_url(sys.argv[2])
    with trace.get_tracer("bench").start_as_current_span("startup"):
        await client.ping()
    startup_seconds.record(0.0)
    yield
    await client.aclose()


async def chat(_: Request) -> PlainTextResponse:
    """Tells how many modules are loaded when it is asked."""
    return PlainTextResponse(str(len(sys.modules)))


app = Starlette(routes=[Route("/chat", chat)], lifespan=lifespan)

if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    server.run([socket.socket(fileno=int(sys.argv[1]))])
