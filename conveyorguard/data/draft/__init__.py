"""Drafting the yaml of a data set from its files: `guess.draft`; what is odd about them: `oddities`."""
