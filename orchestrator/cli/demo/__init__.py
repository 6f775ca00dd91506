"""The demo: a chat service with a late Redis, early clients and an outage, all of it real.

`flow` goes from start to exit status, `measure` is one run with one way of protecting early
clients, `service` and what it imports are the service's process, `clients` the clients,
`live_view` and `summary` what is shown.
"""
