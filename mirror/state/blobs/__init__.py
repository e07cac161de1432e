"""The blobs on disk: ``verified`` selects those to hash again, ``prunable`` those that nothing
needs any longer, ``lost`` takes damaged ones off the pages.
"""
