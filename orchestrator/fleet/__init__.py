"""Many instances of a service, on the service's own Redis."""
