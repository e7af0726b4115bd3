"""Imitate a collector as a process: python collector.py LAYOUT SOURCE TARGET RATE LOG

It writes a session RATE times as fast as it was recorded, and writes to LOG when the last file of each second was
written. LAYOUT: archive (a folder of csv and bin files), loose (the same files among others) or table (a growing csv,
each line in two pieces).
"""

import sys
import time
from pathlib import Path

layout, source, target, rate, log = (
    sys.argv[1],
    Path(sys.argv[2]),
    Path(sys.argv[3]),
    float(sys.argv[4]),
    Path(sys.argv[5]),
)
began = time.time()


def wait(second):
    """Wait until a second of the session is due."""
    time.sleep(max(0.0, began + second / rate - time.time()))


with log.open("a") as journal:
    if layout == "table":
        header, *lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
        with target.open("a", encoding="utf-8") as stream:
            stream.write(header)
            for second, line in enumerate(lines):
                wait(second)
                stream.write(line[: len(line) // 2])
                stream.flush()
                stream.write(line[len(line) // 2 :])
                stream.flush()
                journal.write(f"{second} {time.time()}\n")
                journal.flush()
    else:
        folder = target / source.name if layout == "archive" else target
        folder.mkdir(parents=True, exist_ok=True)
        stems = list(dict.fromkeys(path.stem for path in sorted(source.iterdir())))
        for second, stem in enumerate(stems):
            wait(second)
            for path in sorted(source.glob(f"{stem}.*")):
                content = path.read_bytes()
                with (folder / path.name).open("wb") as stream:
                    stream.write(content[:100])
                    stream.flush()
                    stream.write(content[100:])
            journal.write(f"{second} {time.time()}\n")
            journal.flush()
