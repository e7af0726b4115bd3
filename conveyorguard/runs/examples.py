"""Windows worth a look, kept in the run directory so that its page needs neither store nor model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conveyorguard.data.durations import plain
from conveyorguard.data.windows import Windows
from conveyorguard.system.files import replacing

FRAMES = 5  # thermal frames kept of a window


def choose_examples(data: Windows, part: str, probabilities: np.ndarray, path: Path, count: int = 8) -> None:
    """Write `examples.npz`: the gravest mistakes, then the most confident correct window of each state.

    Mistakes are ranked by the number of states between truth and prediction, then by the confidence of the model; half
    of the examples at most are mistakes, and no two of them of one session.

    The file holds session, start, y_true, y_pred (n,); p (n, K); seconds, state (n, T); sensors (n, T, C); and with a
    camera thermal (n, FRAMES, rows, columns) in [degC], block maxima where they are stored, and thermal_seconds
    (FRAMES,), the seconds within the window.

    Args:
        data: the windows.
        part: of the split, from which examples are taken.
        probabilities: (n, K) of the windows of that part.
        path: of the file.
        count: of examples, at most.
    """
    windows = data.judged(part)
    truth, predicted = windows["label"].to_numpy(), probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    distance = np.abs(predicted - truth)
    mistakes = np.lexsort((-confidence, -distance))
    seen: set[str] = set()
    chosen: list[int] = []
    for i in mistakes[: np.count_nonzero(distance)]:  # neighbouring windows of a session look alike
        if windows["session"][i] not in seen and len(chosen) < count // 2:
            seen.add(windows["session"][i])
            chosen.append(int(i))
    for k in range(probabilities.shape[1]):
        correct = np.flatnonzero((truth == k) & (predicted == k))
        if len(correct) and len(chosen) < count:
            chosen.append(int(correct[confidence[correct].argmax()]))
    rows = windows["row"].to_numpy()[chosen][:, None] + np.arange(data.settings.size)
    arrays = {
        "session": windows["session"].to_numpy(str)[chosen],
        "start": windows["start"].to_numpy()[chosen],
        "y_true": truth[chosen],
        "y_pred": predicted[chosen],
        "p": probabilities[chosen],
        "seconds": data.store.tick[rows] * plain(data.store.period),
        "state": data.store.state[rows],
        "sensors": data.store.sensors[rows],
    }
    if data.store.thermal is not None:
        places = np.arange(FRAMES) * (data.settings.size - 1) // (FRAMES - 1)
        arrays["thermal_seconds"] = places
        arrays["thermal"] = data.store.thermal[rows[:, places]][:, :, -1].astype(np.float32)
    with replacing(path) as aside, aside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
