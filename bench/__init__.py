"""Benchmarks: ``python -m bench``. Numbers are printed, never compared with a limit: that is for tests."""
