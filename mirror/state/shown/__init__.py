"""What the server shows of the state, also while another process writes it: the search, the
history, the blobs that may be served.
"""
