"""Connections of one index: sockets, TLS, proxies, and the addresses and targets that they may
reach.
"""
