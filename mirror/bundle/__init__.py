"""Bundles: what crosses the gap. The near side makes and signs them; ``receive`` alone is what the far side needs."""
