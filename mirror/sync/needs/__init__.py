"""The needs of a configuration's wants in a cycle, and the files that the cycle offers to them."""
