"""The facts as JSON below ``/-/api/v1/``: one object each, and the schema of all of them."""
