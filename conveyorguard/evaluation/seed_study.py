"""The seed study's own figures, on its own data and split; quoted beside ours, never in a column with them."""

from __future__ import annotations

# (modality, film) -> the study's name of the arm
CELLS = {
    ("sensor", False): "Sensor Only",
    ("image", False): "Image Only",
    ("both", False): "Sensor + Image",
    ("both", True): "Sensor + Image + FiLM (Full)",
}
# the two cells that the study did not run
FURTHER_CELLS = {("sensor", True): "Sensor + FiLM", ("image", True): "Image + FiLM"}
# validation accuracy in percent; the first three by 10 epochs with patience 3, the full one by 30 with patience 7
ABLATION = {"Sensor Only": 89.12, "Image Only": 69.56, "Sensor + Image": 89.64, "Sensor + Image + FiLM (Full)": 90.35}
