"""Texts for people: amounts, advice, client configurations, tags of wheels; pure."""
