"""The facts of the state that the server shows, also while another process writes it: the search,
the history, the blobs that may be served.
"""
