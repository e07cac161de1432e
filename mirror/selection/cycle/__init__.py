"""The wants in a cycle of the mirror.

``needs`` decides which files are wanted, round by round; ``judging`` computes one resolution again
where something changed on which its result depends.
"""
