"""The demo: a chat service with a late Redis, early clients and an outage, all of it real.

`_flow` goes from start to exit status, `_run` is one run with one gate, `_service` and what it
imports are the service's process, `_clients` the clients, `_view` and `_summary` what is shown.
"""
