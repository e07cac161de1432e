"""Find out by trying it in a scratch key how an object store behaves.

``requests`` sends single requests, also ones that no client library would send; ``questions`` asks
and judges; scratch keys are removed, also after an error.
"""
