"""From archives to batches: schema, readers, frame store, splits, windows, scaling, data module."""
