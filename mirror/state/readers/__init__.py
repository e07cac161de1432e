"""Questions about the whole state, reading only: ``overview`` of the mirror, ``lookup`` of a
project.
"""
