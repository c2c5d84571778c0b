"""How one update is run: it draws the noise, picks the static variant, and keeps the counter that decides which.

`eager`    runs the algorithm's update as it is written.
`compile`  traces each variant once - forward, backward, optimizers and targets - into one graph and compiles it.
`graph`    on CUDA: the same, captured as one CUDA graph, which the host launches without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from dsac.algorithms.base import Algorithm, Metrics, Noise
from dsac.data import derived_seed
from dsac.optimizer import Adam

Run = Callable[[Any, Noise], Metrics]


class Updater:
    """Callable on a batch: one gradient step of every learner, metrics (S,) each on the device.

    mode: eager, compile or graph.
    count: updates done so far; the policy moves on those that are multiples of the algorithm's delay, 0 included.
    """

    def __init__(self, algorithm: Algorithm, mode: str = "eager") -> None:
        self.algorithm, self.mode, self.count = algorithm, mode, 0
        self.generators = [torch.Generator().manual_seed(derived_seed(seed, "update")) for seed in algorithm.seeds]
        pinned = algorithm.device.type == "cuda"
        self.noise = {
            name: torch.empty(algorithm.learners, *shape, pin_memory=pinned)
            for name, shape in algorithm.noise_shapes().items()
        }
        self.variants: dict[bool, Run] = {}

    def __call__(self, batch: Any) -> Metrics:
        noise = self.draw()
        policy_step = self.count % self.algorithm.delay == 0
        self.count += 1
        if policy_step not in self.variants:
            self.variants[policy_step] = variant(self.algorithm, self.mode, batch, noise, policy_step)
        return self.variants[policy_step](batch, noise)

    def draw(self) -> Noise:
        """The standard normal draws of one update, each learner's from its own generator."""
        for values in self.noise.values():
            for row, generator in zip(values, self.generators, strict=True):
                torch.randn(row.shape, generator=generator, out=row)
        device = self.algorithm.device
        return {name: values.to(device) for name, values in self.noise.items()}

    def state_dict(self) -> dict[str, Any]:
        """The counter and the noise generators."""
        return {"count": self.count, "generators": [generator.get_state() for generator in self.generators]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the saved counter and generators."""
        self.count = state["count"]
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(torch.as_tensor(saved).clone())  # a view with an offset crashes torch


def variant(algorithm: Algorithm, mode: str, batch: Any, noise: Noise, policy_step: bool) -> Run:
    """The update with its policy step or without, in one of the modes; batch and noise tell the shapes."""
    if mode == "eager":
        return lambda batch, noise: algorithm.update(batch, noise, policy_step)
    run = compiled(algorithm, batch, noise, policy_step)
    return captured(algorithm, run, batch, noise) if mode == "graph" else run


def compiled(algorithm: Algorithm, batch: Any, noise: Noise, policy_step: bool) -> Run:
    """One variant of the update as one compiled graph over the algorithm's own tensors, which it updates in place."""
    from torch._inductor import compile as inductor_compile
    from torch._inductor import config as inductor
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    state = [*algorithm.parameters(), *algorithm.buffers()]
    graph, names = traced(algorithm, state, batch, noise, policy_step)
    tensors = [tensor.detach() for tensor in state]
    shapes = FakeTensorMode(shape_env=ShapeEnv())  # only with a shape environment is the compiler's cache on disk used
    with torch.no_grad():
        inputs: list[Any] = [
            shapes.from_tensor(tensor, static_shapes=True) for tensor in (*tensors, *batch, *noise.values())
        ]
        # On a GPU the graph spares the host's work; on the CPU a wrapper in C++ makes it small.
        with inductor.patch(cpp_wrapper=algorithm.device.type == "cpu"):
            call = inductor_compile(graph, inputs)

    @torch.no_grad()
    def run(batch: Any, noise: Noise) -> Metrics:
        return dict(zip(names, call(*tensors, *batch, *noise.values()), strict=True))

    return run


def traced(
    algorithm: Algorithm, state: Sequence[Tensor], batch: Any, noise: Noise, policy_step: bool
) -> tuple[torch.fx.GraphModule, list[str]]:
    """The operations of one variant as a functional graph of (*state, *batch, *noise), and the metrics' names.

    Tracing runs the update, whose traces on the state are undone. It sees below autograd, so that the graph holds
    forward and backward alike; what is computed twice is then computed once, and state is written at the end.
    """
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.dialect.common.cse_pass import CSEPass

    names: list[str] = []

    def update(*_: Tensor) -> list[Tensor]:  # the arguments are the tensors that the update reaches by itself
        metrics = algorithm.update(batch, noise, policy_step)
        names[:] = metrics
        return list(metrics.values())

    optimizers = [module for module in algorithm.modules() if isinstance(module, Adam)]
    saved = [tensor.detach().clone() for tensor in state]
    for optimizer in optimizers:
        optimizer.fused = False
    try:
        graph = make_fx(update)(*state, *batch, *noise.values())
    finally:
        for optimizer in optimizers:
            optimizer.fused = True
        with torch.no_grad():
            for tensor, before in zip(state, saved, strict=True):
                tensor.copy_(before)
    if reached := [node.target for node in graph.graph.nodes if node.op == "get_attr"]:
        raise AssertionError(f"the update reaches tensors that are neither state nor input: {reached}")
    inputs = [tensor.detach() for tensor in (*saved, *batch, *noise.values())]
    with torch.no_grad():
        functional = make_fx(functionalize(graph))(*inputs)
    functional = cast("Any", CSEPass()(functional)).graph_module
    functional.graph.eliminate_dead_code()
    functional.recompile()
    for node in functional.graph.nodes:
        node.meta.clear()  # shapes of the tracing, which the compiler would compare with its own
    return functional, names


def captured(algorithm: Algorithm, run: Run, batch: Any, noise: Noise) -> Run:
    """A run as one CUDA graph; its inputs are copied into fixed places, its metrics stay valid until the next run."""
    places = [tensor.clone() for tensor in (*batch, *noise.values())]
    fixed_batch = type(batch)(*places[: len(batch)])
    fixed_noise = dict(zip(noise, places[len(batch) :], strict=True))
    state = [*algorithm.parameters(), *algorithm.buffers()]
    saved = [tensor.detach().clone() for tensor in state]
    cuda: Any = torch.cuda
    side = cuda.Stream(algorithm.device)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # libraries choose their kernels and buffers before the capture
            run(fixed_batch, fixed_noise)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        metrics = run(fixed_batch, fixed_noise)
    with torch.no_grad():
        torch._foreach_copy_([tensor.detach() for tensor in state], saved)

    def replay(batch: Any, noise: Noise) -> Metrics:
        torch._foreach_copy_(places, [*batch, *noise.values()])
        graph.replay()
        return metrics

    return replay
