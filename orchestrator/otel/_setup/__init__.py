"""`setup_telemetry`: the only room that loads the SDK."""
