"""From requirements to files: uv, started against the view, and its answer."""
