"""``mirror bundle …``: carry changes across an air gap.

``key`` makes a key, ``create`` a bundle, ``sites`` shows and changes what is known of the far side,
``contents`` shows and checks a bundle, ``receive`` applies one.
"""
