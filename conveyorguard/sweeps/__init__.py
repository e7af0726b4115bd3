"""Optuna studies shared by many processes, for any Hydra application."""
