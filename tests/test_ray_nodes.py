"""A node of a cluster leaves a run that collects on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import final_state, only_run, rows, small_config, train

from dsac.cli import exit_codes
from dsac.collection import ray_cluster

pytest.importorskip("ray", reason="Ray is an extra: pip install 'dsac[ray]'")


def test_a_node_that_leaves_takes_only_its_collectors(tmp_path: Path):
    """Catches a run that ends, or stands still, with one of its nodes."""
    words = ["collect=ray", "collectors=6", "ray.block_steps=8", "total_env_steps=1e9", "accelerate=eager"]
    at: list[int] = []
    with ray_cluster.cluster_here(3, 2) as cluster:

        def strike(trainer: Any) -> None:
            if not at and all(slot.answered for slot in trainer.collector.slots):
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                at.append(trainer.env_steps)
            if at and trainer.collector.losses == 2:
                trainer.total_env_steps = at[0] = trainer.env_steps + 400
                trainer.callbacks.remove(strike)

        config = small_config(tmp_path, "sac", *words, f"ray.address={cluster.address}")
        assert train(config, None, [strike]) == exit_codes.FINISHED
    last = {row["tag"]: float(row["value"]) for row in rows(only_run(tmp_path))}
    assert last["collect/collectors_lost"] == 2
    assert int(final_state(only_run(tmp_path))["env_steps"]) >= at[0]
