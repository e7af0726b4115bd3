"""Fit models: networks by a recipe, tabular models on window features."""
