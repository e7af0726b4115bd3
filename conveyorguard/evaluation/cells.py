"""The cells of the ablation: modality and film, with the names of their arms."""

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
