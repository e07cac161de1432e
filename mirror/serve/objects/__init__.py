"""The tree of an object store over HTTP: no state, any number of processes and machines.

``source`` reads objects with a deadline, ``pages`` keeps those of pages, ``files`` streams files or
redirects to the store, ``listing`` is the one page for people, ``server`` answers requests.
"""
