"""What wants need, and why some of it is not held."""
