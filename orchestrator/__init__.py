"""Event-driven start-up for services with Redis and WebSockets."""
