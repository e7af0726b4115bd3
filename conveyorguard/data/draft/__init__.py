"""Drafting the yaml of a data set from its files: `draft.draft`; what is odd about them: `oddities`."""
