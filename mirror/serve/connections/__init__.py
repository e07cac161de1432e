"""Connections of clients: sockets, TLS, time limits, and numbers that all processes share."""
