"""What an object store does, found out by doing it in a scratch key below the prefix.

``requests`` sends single requests, also ones that no client library would send; ``questions`` asks
and judges; what was written is removed, also after an error.
"""
