"""The files that pages ask for: downloaded here or by worker processes, judged here."""
