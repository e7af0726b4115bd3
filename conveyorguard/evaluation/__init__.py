"""Comparing, diagnosing and combining runs."""
