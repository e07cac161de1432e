"""The tree over HTTP, for pip, uv and other clients: read-only, without a lock, also while another
process writes the mirror.

``requests`` reads a request and is pure; ``pages`` and ``sending`` send files of ``tree`` as
``state`` allows; ``connections`` holds sockets and limits; ``processes`` starts the processes that
answer.
"""
