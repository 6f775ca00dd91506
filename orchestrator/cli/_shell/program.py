"""What the program is called."""

PROGRAM = "startup-orchestrator"
