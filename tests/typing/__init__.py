"""The public interface as type checkers see it: mypy and pyright, both strict."""
