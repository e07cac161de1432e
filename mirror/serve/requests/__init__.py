"""A request, read: its target, its route, the form and the part that it asks for. Pure."""
