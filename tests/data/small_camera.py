"""A schema with a camera of a few pixels, and frames for it."""

import numpy as np

from conveyorguard.data.schema import Schema


def small_camera_schema(plain_schema, **thermal):
    node = plain_schema.to_dict()
    return Schema.from_config({**node, "thermal": {"shape": [8, 10], "stored": [4, 5], **thermal}})


def warm(count, shape=(8, 10)):
    return np.full((count, *shape), 35.0, np.float32)
