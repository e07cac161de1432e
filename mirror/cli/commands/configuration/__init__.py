"""Commands about the configuration, the files made from it, and those who use the mirror."""
