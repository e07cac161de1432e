"""``mirror snapshot``: named states of the tree, and channels that show one of them."""
