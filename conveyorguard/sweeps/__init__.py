"""Optuna studies that many processes share, for any Hydra application."""
