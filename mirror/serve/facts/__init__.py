"""What pages and API show: frozen values, read from the state where there is one, and the tree.

``reading`` reads both in a thread. Without a state (beyond a gap) or where it can't be read, each
fact comes from the published pages and the receiver's record.
"""
