"""The process and its event loops: time, tasks, signals, threads, forks."""
