"""Listings and metadata of what wants may need."""
