"""``mirror probe``: ask an index or an object store for its features, and print their consequences
for a mirror of it or in it.

``--json`` prints one object: ``{"format": 1, "indexes": [{"index": "default", "findings": [{"name":
"serials", "question": "…", "answer": "…", "meaning": "…"}], "error": null}]}``; for a store
``{"format": 1, "stores": [{"store": "s3://…", "findings": […], "policies": {"anonymous": {…},
"reader": {…}, "writer": {…}}, "lifecycle": {…}, "error": null}]}``. The exit code is that of the
first error.
"""
