"""Applying a trained run to recordings."""
