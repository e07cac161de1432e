"""The rules: values in, values out. No input or output, no clock, no randomness of its own.

``pages`` parses and renders pages, ``files`` knows one listed file, ``words`` makes texts for
people; the rules that decide stand here, with the values that they share in ``model`` and
``names``.
"""
