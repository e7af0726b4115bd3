"""Draft the yaml of a data set from its files (`draft.draft`) and report their oddities (`oddities`)."""
