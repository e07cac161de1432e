"""The readers: users with passwords, and the clients behind trusted proxies.

``htpasswd`` and ``proxies`` are pure; ``passwords`` checks credentials with a bounded number of
hash checks; ``watched`` keeps a value that was read from files current.
"""
