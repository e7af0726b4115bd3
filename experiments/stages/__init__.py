"""The seed study as stages: its runs, its figures, its pages."""
