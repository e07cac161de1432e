"""The proof that a want installs from the published pages."""
