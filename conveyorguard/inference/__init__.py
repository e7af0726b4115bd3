"""Apply trained runs to sessions."""
