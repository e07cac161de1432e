"""``mirror bundle …``: carry changes across an air gap.

``key`` makes a key, ``create`` a bundle, ``sites`` shows and changes the record of the far side,
``contents`` shows and checks a bundle, ``receive`` applies one.
"""
