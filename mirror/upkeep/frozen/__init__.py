"""Where frozen pages lie: on the disk as links, or in an object store as objects.

``places`` chooses; ``disk`` and ``store`` implement. A hidden pin lies on the local disk in both.
"""
