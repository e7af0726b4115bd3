"""Read sessions from csv or parquet files, with the frames of a camera next to them."""

from conveyorguard.data.table.reader import sessions

__all__ = ["sessions"]
