"""Every way of running an update gives the same numbers, and what a machine lacks is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ALGORITHMS, Target, make_algorithm, make_batch, make_noise, make_spec, run_updates

from dsac.collection.collector import Collector
from dsac.config import compose, load
from dsac.data import Transition
from dsac.errors import ConfigError
from dsac.nn.precision import set_precision
from dsac.runs import hardware
from dsac.schema.algorithm_config import OffPolicyConfig
from dsac.trainer import Trainer
from dsac.updater import StatisticsUpdater, Updater, accelerated

NORMALIZED = {"observation_normalization": True, "return_normalization": True}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
needs_compiler = pytest.mark.usefixtures("compiler")


def differences(one: torch.nn.Module, other: torch.nn.Module) -> dict[str, float]:
    """The largest difference of every entry of two states."""
    theirs = other.state_dict()
    return {
        name: (value.double() - theirs[name].to(value.device).double()).abs().max().item()
        for name, value in one.state_dict().items()
    }


def run(algorithm: Any, mode: str, count: int, dtype: torch.dtype) -> None:
    """`count` updates in a mode, on made-up batches."""
    updater = Updater(algorithm, mode)
    for step in range(count):
        batch = make_batch(algorithm, step, dtype)
        updater(type(batch)(*(field.to(algorithm.device) for field in batch)))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_traced_update_equals_the_written_one(name: str, monkeypatch: pytest.MonkeyPatch):
    """Catches state that tracing misses or leaves changed, targets that follow old parameters, a variant mixed up."""
    monkeypatch.setattr("torch._inductor.compile", lambda graph, examples: graph)
    written, traced = (make_algorithm(name, (0, 1), **NORMALIZED).double() for _ in range(2))
    run(written, "eager", 20, torch.float64)
    run(traced, "compile", 20, torch.float64)
    assert max(differences(written, traced).values()) < 1e-12


@needs_compiler
@pytest.mark.parametrize("name", ["dsac_t", "ppo"])
def test_the_compiled_update_equals_the_eager_one(name: str):
    """Catches a compiler that reorders what may not be reordered, and rounding beyond float32's."""
    eager, compiled = make_algorithm(name), make_algorithm(name)
    run(eager, "eager", 20, torch.float32)
    run(compiled, "compile", 20, torch.float32)
    assert max(differences(eager, compiled).values()) < 1e-5


@needs_compiler
def test_the_compiled_policy_acts_like_the_eager_one_and_follows_its_parameters():
    """Catches an `act` that keeps the parameters it was compiled with."""
    algorithm = make_algorithm("dsac_t", **NORMALIZED)
    act = accelerated(algorithm, algorithm.act, "compile")
    obs, noise = torch.randn(1, 4, algorithm.spec.obs_dim), torch.randn(1, 4, algorithm.spec.action_dim)
    for _ in range(2):
        torch.testing.assert_close(act(obs, noise), algorithm.act(obs, noise))
        with torch.no_grad():
            algorithm.actor.output.bias.add_(0.5)


@pytest.mark.parametrize("narrowest", [False, True])
def test_the_width_of_vectors_is_part_of_the_compilers_cache(narrowest: bool, monkeypatch: pytest.MonkeyPatch):
    """Catches a cache that a probe of the processor which took too long fills with code for narrow vectors: built with
    wide ones in the next process, it writes beyond its arrays and the process dies."""
    from torch._inductor import config, cpu_vec_isa

    known = cpu_vec_isa.valid_vec_isa_list()
    if not known:
        pytest.skip("this processor has no vectors that the compiler knows")
    found = known[-1:] if narrowest else known
    seen = []
    monkeypatch.setattr(cpu_vec_isa, "valid_vec_isa_list", lambda: found)
    monkeypatch.setattr("torch._inductor.compile", lambda graph, examples: seen.append(config.cpp.simdlen) or graph)
    algorithm = make_algorithm("dsac_t")
    act = accelerated(algorithm, algorithm.act, "compile")
    act(torch.randn(1, 4, algorithm.spec.obs_dim), torch.randn(1, 4, algorithm.spec.action_dim))
    assert seen == [found[0].bit_width()]


@needs_compiler
@pytest.mark.parametrize("name", ["dsac_t", "dsac_x"])
def test_the_compiled_statistics_equal_the_eager_ones(name: str):
    """Catches statistics that stand still, count a block twice, or count the one they were compiled with.

    DSAC-X rescales its critics with them, once it has learned: a change of parameters that a graph could lose.
    """
    draw = np.random.default_rng(0)
    algorithms = [make_algorithm(name, (0, 1), **NORMALIZED) for _ in range(2)]
    for algorithm in algorithms:
        run_updates(algorithm, 1, torch.float32)
    updaters = [
        StatisticsUpdater(algorithm, mode) for algorithm, mode in zip(algorithms, ("eager", "compile"), strict=True)
    ]
    for _ in range(3):
        spec, shape = algorithms[0].spec, (1, 2, algorithms[0].config.num_envs)
        obs = draw.normal(size=(*shape, spec.obs_dim)).astype(np.float32)
        ended = draw.random(shape) < 0.3
        action, reward = np.zeros((*shape, spec.action_dim), np.float32), draw.normal(size=shape).astype(np.float32)
        block = Transition(obs, action, reward, obs, ended, np.zeros_like(ended), np.zeros_like(ended))
        for updater in updaters:
            updater(block)
    assert max(differences(*algorithms).values()) < 1e-6
    for statistics in (algorithms[1].observations, algorithms[1].returns):
        assert statistics.moments.count.tolist() == [3 * shape[-1]] * 2


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_learner_with_a_non_finite_number_is_frozen_alone(name: str):
    """Catches a NaN that spreads to other learners, into moments or parameters, and a learner that comes back."""
    hit, spared = (make_algorithm(name, (0, 1, 2)).double() for _ in range(2))
    for algorithm in (hit, spared):
        updater = Updater(algorithm)
        for step in range(8):
            batch = make_batch(algorithm, step)
            if algorithm is hit and step == 3:
                before = {key: value.clone() for key, value in hit.state_dict().items()}
                field = "return_" if name == "ppo" else "reward"
                getattr(batch, field)[1, 0] = torch.nan
            metrics = updater(batch)
    assert metrics["frozen"].tolist() == [0, 0, 0]
    assert hit.frozen.tolist() == [False, True, False]
    for key, value in hit.state_dict().items():
        if value.ndim == 0 or key == "frozen":
            continue
        torch.testing.assert_close(value[[0, 2]], spared.state_dict()[key][[0, 2]], rtol=0, atol=1e-12)
        if "target" not in key and key != "last_kl":
            assert torch.equal(value[1], before[key][1]), key
    assert all(torch.isfinite(value).all() for key, value in hit.state_dict().items() if key != "last_kl")


def test_bfloat16_takes_hidden_products_alone():
    """Catches a precision that reaches outputs or parameters, and one that does nothing."""
    precise, rough = make_algorithm("dsac_t"), make_algorithm("dsac_t")
    set_precision(rough, "bfloat16")
    run(precise, "eager", 1, torch.float32)
    run(rough, "eager", 1, torch.float32)
    worst = max(differences(precise, rough).values())
    assert 1e-6 < worst < 0.2
    assert {value.dtype for value in rough.parameters()} == {torch.float32}
    obs = torch.randn(1, 4, rough.spec.obs_dim)
    assert rough.actor(obs).dtype == torch.float32
    set_precision(rough, "float32")
    assert rough.actor.hidden[0].precision is None


def test_overlap_learns_from_earlier_blocks_while_the_worlds_step(monkeypatch: pytest.MonkeyPatch):
    """Catches an overlap that does nothing, one whose lag grows, and updates that are lost at the end of a block."""
    events: list[str] = []

    class World(Target):
        def step(self, action: Any) -> Any:
            events.append("step")
            return super().step(action)

    algorithm = make_algorithm("ddpg", spec=make_spec(2, 1), warmup_env_steps=32, updates_per_env_step=0.25)
    collector = Collector([World(4)], [0], torch.device("cpu"))
    memory = algorithm.memory(4, torch.device("cpu"))
    updater = Updater(algorithm)
    plain = updater.variant

    def noted(*args: Any) -> Any:
        call = plain(*args)
        return lambda *inputs: events.append("update") or call(*inputs)

    monkeypatch.setattr(updater, "variant", noted)
    trainer = Trainer(algorithm, updater, collector, memory, [], 12, overlap=True)
    trainer.run()
    assert events[-5:] == ["step", "update", "step", "update", "step"]
    assert memory.updates_due == 1


def chosen(*words: str) -> tuple[Any, list[str]]:
    return hardware.resolve_hardware(load(compose(["device=cpu", *words])))


def test_auto_compiles_what_is_long_enough_and_says_why_not(monkeypatch: pytest.MonkeyPatch):
    """Catches a compilation that a short run never wins back, and a machine without a compiler that stops the run."""
    monkeypatch.setattr(hardware, "missing_compiler", lambda device: None)
    assert chosen("total_env_steps=1000000")[0].accelerate == "compile"
    assert chosen("total_env_steps=20000")[0].accelerate == "eager"
    assert chosen("total_env_steps=20000", "updates_per_env_step=1")[0].accelerate == "compile"
    assert chosen("algo=ppo", "total_env_steps=200000")[0].accelerate == "compile"
    monkeypatch.setattr(hardware, "missing_compiler", lambda device: "there is no compiler")
    config, remarks = chosen("total_env_steps=1000000")
    assert config.accelerate == "eager"
    assert any("no compiler" in remark for remark in remarks)
    with pytest.raises(ConfigError, match=r"accelerate=compile: there is no compiler; accelerate=eager"):
        chosen("accelerate=compile")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["accelerate=graph"], "needs device=cuda"),
        (["overlap=true"], "needs device=cuda"),
        (["precision=tf32"], "needs device=cuda"),
        (["overlap=true", "algo=ppo"], "learns from the newest block alone"),
    ],
)
def test_what_needs_cuda_is_refused_without_it(words: list[str], message: str):
    """Catches a setting that is silently ignored on the CPU."""
    with pytest.raises(ConfigError, match=message):
        chosen(*words)


def test_threads_are_chosen_said_and_small_layers_take_one(monkeypatch: pytest.MonkeyPatch):
    """Catches more threads than cores without a word, and minibatches whose threads wait longer than they work."""
    monkeypatch.setattr(hardware, "available_cores", lambda: 2)
    assert any("threads=3 on 2 cores" in remark for remark in chosen("threads=3")[1])
    assert hardware.torch_threads(chosen()[0]) == 2
    assert hardware.torch_threads(chosen("algo=ppo")[0]) == 1


def test_every_off_policy_config_knows_its_updates():
    """Catches a budget of updates that forgets the ratio: auto would compile runs of a minute, or never."""
    config = dataclasses.replace(load(compose(["algo=sac"])).algo, updates_per_env_step=0.5)
    assert isinstance(config, OffPolicyConfig)
    assert config.updates_in(100) == 50
    assert load(compose(["algo=ppo"])).algo.updates_in(2048) == 320


@needs_cuda
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_captured_update_equals_the_eager_one(name: str):
    """Catches a graph that replays its warm-up, stale inputs, and state that was copied instead of captured."""
    eager, captured = (make_algorithm(name, (0, 1), **NORMALIZED).cuda() for _ in range(2))
    run(eager, "eager", 20, torch.float32)
    run(captured, "graph", 20, torch.float32)
    assert max(differences(eager, captured).values()) < 1e-4


@needs_cuda
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_update_on_cuda_never_waits(name: str):
    """Catches a host sync inside the update, which a dispatch mode on the CPU cannot see: a captured graph has none."""
    algorithm = make_algorithm(name, (0, 1), **NORMALIZED).cuda()
    batch = make_batch(algorithm, 0, torch.float32)
    batch = type(batch)(*(field.cuda() for field in batch))
    noise = {key: draws.float().cuda() for key, draws in make_noise(algorithm, 0).items()}
    for policy_step in (True, False):
        algorithm.update(batch, noise, policy_step)  # what is made at the first call may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            next(iter(batch)).sum().item()  # the mode does see one
        for policy_step in (True, False):
            algorithm.update(batch, noise, policy_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
