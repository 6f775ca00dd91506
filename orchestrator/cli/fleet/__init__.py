"""`fleet`: all instances of a service, live; and the gate for deploys."""
