"""The tree over HTTP, for pip, uv and the like: read-only, without a lock, beside whatever works on the mirror.

``negotiation``, ``target``, ``routes`` and ``conditions`` are pure; ``pages`` and ``sending`` send what ``tree`` and
``state`` tell; ``supervisor`` starts the processes that answer.
"""
