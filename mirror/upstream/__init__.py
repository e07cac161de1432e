"""Everything that speaks to an index; aiohttp's client lives here, and its exceptions end here.

Read in this order: ``session`` (one index: redirects, credentials, limits), ``index`` (its pages), ``download`` (its
files), ``credentials``. What leaves this package is a value of ``core.model``, bytes, or an ``errors.UpstreamError``.
"""
