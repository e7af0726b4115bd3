"""Recordings as tables: csv or parquet files, with a camera's frames beside them."""

from conveyorguard.data.table.reader import sessions

__all__ = ["sessions"]
