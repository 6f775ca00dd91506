"""Benchmarks: each row shows ours beside its peers and the floor, all measured in one run.

`make bench` runs the parts one after the other, each in a process of its own, and writes one table
as Markdown and JSON. A part is a module here with a function `measure` that yields rows and plots;
`PARTS` in `__main__` names them. Nothing here is an assertion: a missed target is shown as missed.
"""
