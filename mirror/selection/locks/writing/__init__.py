"""The same lock with the mirror's addresses and digests: one writer for each format.

Writers change values and take entries out; comments, order and formatting stay.
"""
