"""All communication with indexes; aiohttp's client is used here only, and its exceptions end here.

Read in this order: ``session`` (one index: redirects, credentials, limits), ``index`` (its pages),
``download`` (its files), ``credentials``. This package returns values of ``core.model`` and bytes,
and raises ``errors.UpstreamError``.
"""
