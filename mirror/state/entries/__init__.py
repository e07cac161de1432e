"""The published files, as temporal rows: each is valid from one revision until another.

``held`` and ``claims`` read them, ``changes`` opens and ``removals`` closes them, ``pages`` knows
what each page has to show; ``offered`` holds the metadata of files that are no wheels, ``rebuilt``
the files of a tree whose state was lost, ``labels`` the columns of a file's labels.
"""
