"""The windows a person should look at first, kept with the run so that its page needs no store and no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conveyorguard.data.windows import Windows
from conveyorguard.system.files import replacing

FRAMES = 5  # thermal frames shown of a window


def choose_examples(data: Windows, part: str, probabilities: np.ndarray, path: Path, count: int = 8) -> None:
    """Write `examples.npz`: the mistakes that matter most, then the surest hit of each state.

    A mistake matters by how many states it is off, then by how sure the model was.

    The file holds session, start, y_true, y_pred, why (n,); p (n, K); seconds (n, T); sensors (n, T, C); state (n, T);
    and with a camera thermal (n, FRAMES, rows, columns) of the hottest channel, degC, and thermal_seconds (FRAMES,).
    """
    windows = data.part(part)
    truth, guess = windows["label"].to_numpy(), probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    distance = np.abs(guess - truth)
    mistakes = np.lexsort((-sure, -distance))
    seen: set[str] = set()
    chosen: list[int] = []
    for i in mistakes[: np.count_nonzero(distance)]:  # one window a session: neighbours tell the same story
        if windows["session"][i] not in seen and len(chosen) < count // 2:
            seen.add(windows["session"][i])
            chosen.append(int(i))
    for k in range(probabilities.shape[1]):
        right = np.flatnonzero((truth == k) & (guess == k))
        if len(right) and len(chosen) < count:
            chosen.append(int(right[sure[right].argmax()]))
    rows = windows["row"].to_numpy()[chosen][:, None] + np.arange(data.settings.size)
    arrays = {
        "session": windows["session"].to_numpy(str)[chosen],
        "start": windows["start"].to_numpy()[chosen],
        "y_true": truth[chosen],
        "y_pred": guess[chosen],
        "p": probabilities[chosen],
        "seconds": data.store.tick[rows],
        "state": data.store.state[rows],
        "sensors": data.store.sensors[rows],
    }
    if data.store.thermal is not None:
        places = np.arange(FRAMES) * (data.settings.size - 1) // (FRAMES - 1)
        arrays["thermal_seconds"] = places
        arrays["thermal"] = data.store.thermal[rows[:, places]][:, :, -1].astype(np.float32)
    with replacing(path) as aside, aside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
