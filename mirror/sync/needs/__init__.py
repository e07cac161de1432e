"""What the wants of a configuration need of a cycle, and what the cycle offers to them."""
