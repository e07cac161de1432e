"""Long runs that try to break the mirror: kills at every step, and random histories against a model.

``killing`` runs real cycles as processes and kills them; ``history`` drives an index and its mirror through random
events and compares with ``model``. ``make test`` takes a little of both, ``make soak`` (``python -m soak``) much.
"""
