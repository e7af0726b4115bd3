"""Objects that execute code when they are unpickled."""

import os

SECRET = "s3cret-value-of-the-environment"


class Tripwire:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)
