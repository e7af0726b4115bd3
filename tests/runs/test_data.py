"""The data of a config, whatever else the config holds."""

from conveyorguard.config.compose import compose_config
from conveyorguard.runs.data import load_windows


def test_config_of_a_sweep_loads_its_data_although_hydra_does_not_run(tmp_path):
    overrides = ["data.sessions=8", "data.schema.thermal=null", "modality=sensor", f"paths.cache={tmp_path}"]
    plain = load_windows(compose_config(overrides))
    sweep = load_windows(compose_config([*overrides, "sweep=optuna"], with_hydra=True))
    assert sweep.split.hash == plain.split.hash and sweep.frame.equals(plain.frame)
