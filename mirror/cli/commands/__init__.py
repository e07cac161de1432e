"""The commands: arguments become one use case, its result is printed, and one exit code is
returned.
"""
