"""Benchmarks: ``python -m bench``. What counts is a ratio between two programs that ran in turn; limits are for tests."""
