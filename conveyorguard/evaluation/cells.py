"""Cells of the ablation over modality and FiLM, with the names of their arms."""

from __future__ import annotations

# (modality, film) -> name of the arm
CELLS: dict[tuple[str, bool | str], str] = {
    ("sensor", False): "Sensor Only",
    ("image", False): "Image Only",
    ("both", False): "Sensor + Image",
    ("both", True): "Sensor + Image + FiLM (Full)",
}
# FiLM with a single modality: not needed for an ablation of the full model
FURTHER_CELLS: dict[tuple[str, bool | str], str] = {("sensor", True): "Sensor + FiLM", ("image", True): "Image + FiLM"}
