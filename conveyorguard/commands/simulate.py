"""Write simulated recordings as archives."""

from __future__ import annotations

from conveyorguard.commands.arguments import one_path


def main(arguments: list[str]) -> None:
    """simulate OUT [data.sessions=72] [data.seed=0] [data.archive=zip|folder]

    Write simulated recordings into the new folder OUT as AI Hub #71802 archives: zips, or folders of the same files.
    Read them with `python train.py data=aihub data.root=OUT`.
    """
    from omegaconf import OmegaConf

    from conveyorguard.config.compose import compose_config
    from conveyorguard.data.archive.writer import write
    from conveyorguard.data.schema import Schema

    out, overrides = one_path(arguments, "simulate OUT")
    cfg = compose_config(["data=simulated", *overrides])
    schema = Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))  # type: ignore[arg-type]
    count = write(out, schema, cfg.data.sessions, cfg.data.seed, cfg.data.archive)
    print(f"{count} sessions; train on them with: python train.py data=aihub data.root={out}")
    print(out)
