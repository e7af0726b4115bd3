"""Compare, diagnose and combine runs."""
