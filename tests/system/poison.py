"""Files that carry code, and what they would do."""

import os

SECRET = "s3cret-value-of-the-environment"


class Tripwire:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)
