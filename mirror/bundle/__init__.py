"""Bundles: the transfer across the gap.

The near side makes and signs them; the far side needs ``receive`` alone.
"""
