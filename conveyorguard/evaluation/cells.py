"""The cells of the ablation: modality and film, with the names of their arms."""

from __future__ import annotations

# (modality, film) -> name of the arm
CELLS: dict[tuple[str, bool | str], str] = {
    ("sensor", False): "Sensor Only",
    ("image", False): "Image Only",
    ("both", False): "Sensor + Image",
    ("both", True): "Sensor + Image + FiLM (Full)",
}
# film without the other modality, which an ablation of the full model need not have
FURTHER_CELLS: dict[tuple[str, bool | str], str] = {("sensor", True): "Sensor + FiLM", ("image", True): "Image + FiLM"}
