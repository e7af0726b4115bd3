"""Pages, model card and terminal tables."""
