"""Pages of the simple repository API: parsed from JSON and HTML, rendered to both; bounded,
pure.
"""
