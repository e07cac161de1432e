"""The tree over HTTP, for pip, uv and other clients: read-only, without a lock, also while another
process writes the mirror.

``negotiation``, ``target``, ``routes`` and ``conditions`` are pure; ``pages`` and ``sending`` send
files of ``tree`` as ``state`` allows; ``supervisor`` starts the processes that answer.
"""
