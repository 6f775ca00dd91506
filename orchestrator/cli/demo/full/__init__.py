"""`demo --full`: several dependencies and two tasks, each late and each lost in its own way.

`full_run` is the run, `full_service` the service in its process, `dependencies` what it depends on,
`falls` what is promised of each fall and what became of it.
"""
