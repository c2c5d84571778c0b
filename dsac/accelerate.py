"""How an algorithm's `update` and `act` are run.

`eager`    as they are written.
`compile`  each traced once - forward, backward, optimizers and targets alike - into one graph, which is compiled.
`graph`    on CUDA: the compiled graph captured as one CUDA graph, which the host launches without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from dsac import compiler_cache
from dsac.algorithms.base import Algorithm, Metrics, Noise
from dsac.data import Transition, derived_seed
from dsac.optimizer import Adam

Outputs = dict[str, Tensor]
Run = Callable[..., Outputs]


class Updater:
    """Callable on a batch: one gradient step of every learner, metrics (S,) each on the device.

    It draws the noise, picks the static variant - with a policy step or without - and keeps the counter that decides.
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
        inputs = (*batch, *self.draw().values())
        policy_step = self.count % self.algorithm.delay == 0
        self.count += 1
        if policy_step not in self.variants:
            self.variants[policy_step] = self.variant(type(batch), len(batch), policy_step, inputs)
        return self.variants[policy_step](*inputs)

    def variant(self, kind: type[Any], fields: int, policy_step: bool, inputs: Sequence[Tensor]) -> Run:
        """The update with its policy step or without, as a function of the batch's fields and the noise."""

        def update(*inputs: Tensor) -> Outputs:
            noise = dict(zip(self.noise, inputs[fields:], strict=True))
            return self.algorithm.update(kind(*inputs[:fields]), noise, policy_step)

        return accelerated(self.algorithm, update, inputs, self.mode)

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


class Actor:
    """The algorithm's `act`, run in the same mode as its updates; compiled at the first call."""

    def __init__(self, algorithm: Algorithm, mode: str) -> None:
        self.algorithm, self.mode = algorithm, mode
        self.run: Run | None = None

    def __call__(self, obs: Tensor, noise: Tensor) -> Tensor:
        if self.run is None:
            self.run = accelerated(
                self.algorithm, lambda *inputs: {"action": self.algorithm.act(*inputs)}, (obs, noise), self.mode
            )
        return self.run(obs, noise)["action"]


class Observer:
    """The algorithm's `observe`, called with each block; compiled at the first one if that is one step long.

    Some sixty small operations: where every step has an update they would take a twentieth of the time.
    """

    def __init__(self, algorithm: Algorithm, mode: str) -> None:
        statistics = algorithm.observations is not None or algorithm.returns is not None
        self.algorithm, self.mode = algorithm, mode if statistics else "eager"
        self.run: Run | None = None

    def __call__(self, block: Transition) -> None:
        arrays = (block.obs, block.reward, block.terminated | block.truncated)
        inputs = [torch.as_tensor(array, device=self.algorithm.device) for array in arrays]
        if self.run is None:
            # The steps of a longer block would be unrolled, and its statistics are taken rarely.
            mode = self.mode if len(block.reward) == 1 else "eager"
            self.run = accelerated(self.algorithm, self.observe, inputs, mode)
        self.run(*inputs)

    def observe(self, *inputs: Tensor) -> Outputs:
        self.algorithm.observe(*inputs)
        return {}


def accelerated(algorithm: Algorithm, function: Run, inputs: Sequence[Tensor], mode: str) -> Run:
    """The function of inputs and the algorithm's own tensors in one of the modes; `inputs` tell the shapes."""
    if mode == "eager":
        return function
    run = compiled(algorithm, function, inputs)
    return captured(algorithm, run, inputs) if mode == "graph" else run


def compiled(algorithm: Algorithm, function: Run, inputs: Sequence[Tensor]) -> Run:
    """A function as one compiled graph over the algorithm's own tensors, which it updates in place."""
    compiler_cache.use_private_folder()
    from torch._guards import TracingContext, tracing
    from torch._inductor import compile as inductor_compile
    from torch._inductor import config as inductor
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    state = [*algorithm.parameters(), *algorithm.buffers()]
    tensors = [tensor.detach() for tensor in state]
    names: list[str] = []

    def call_of_graph() -> Any:
        shapes = FakeTensorMode(shape_env=ShapeEnv())  # only with these is the compiler's cache on disk used
        with tracing(TracingContext(shapes)):  # without a context each operation would make one of its own
            graph, names[:] = traced(algorithm, function, state, inputs)
        with torch.no_grad():
            examples: list[Any] = [shapes.from_tensor(tensor, static_shapes=True) for tensor in (*tensors, *inputs)]
            settings = {
                # On a GPU the captured graph spares the host's work; on the CPU a wrapper in C++ makes it small.
                "cpp_wrapper": algorithm.device.type == "cpu",
                # Said here, the vectors' width is part of the cache's key. Otherwise, where the compiler's probe of the
                # processor runs into its time limit (a suspended machine), code for narrow vectors stays in the cache,
                # is built with wide ones by the next process, and writes beyond its arrays.
                "cpp.simdlen": pick_vec_isa().bit_width(),
            }
            with inductor.patch(settings):
                return inductor_compile(graph, examples)

    call = compiler_cache.build(call_of_graph)

    @torch.no_grad()
    def run(*inputs: Tensor) -> Outputs:
        return dict(zip(names, call(*tensors, *inputs), strict=True))

    return run


def traced(
    algorithm: Algorithm, function: Run, state: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[torch.fx.GraphModule, list[str]]:
    """The operations of a function as a functional graph of (*state, *inputs), and the names of its outputs.

    Tracing runs the function, whose traces on the state are undone. It sees below autograd, so that the graph holds
    forward and backward alike; what is computed twice is then computed once, and state is written at the end.
    """
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.dialect.common.cse_pass import CSEPass

    names: list[str] = []

    def flat(*tensors: Tensor) -> list[Tensor]:  # the state among them are the very tensors that the function reaches
        outputs = function(*tensors[len(state) :])
        names[:] = outputs
        return list(outputs.values())

    optimizers = [module for module in algorithm.modules() if isinstance(module, Adam)]
    saved = [tensor.detach().clone() for tensor in state]
    for optimizer in optimizers:
        optimizer.fused = False
    try:
        graph = make_fx(flat)(*state, *inputs)
    finally:
        for optimizer in optimizers:
            optimizer.fused = True
        with torch.no_grad():
            for tensor, before in zip(state, saved, strict=True):
                tensor.copy_(before)
    if reached := [node.target for node in graph.graph.nodes if node.op == "get_attr"]:
        raise AssertionError(f"the update reaches tensors that are neither state nor input: {reached}")
    with torch.no_grad():
        functional = make_fx(functionalize(graph))(*saved, *inputs)
    functional = cast("Any", CSEPass()(functional)).graph_module
    functional.graph.eliminate_dead_code()
    functional.recompile()
    for node in functional.graph.nodes:
        node.meta.clear()  # shapes of the tracing, which the compiler would compare with its own
    return functional, names


def captured(algorithm: Algorithm, run: Run, inputs: Sequence[Tensor]) -> Run:
    """A run as one CUDA graph; inputs are copied into fixed places, outputs stay valid until the next run."""
    places = [tensor.clone() for tensor in inputs]
    state = [tensor.detach() for tensor in (*algorithm.parameters(), *algorithm.buffers())]
    saved = [tensor.clone() for tensor in state]
    cuda: Any = torch.cuda
    side = cuda.Stream(algorithm.device)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # libraries choose their kernels and buffers before the capture
            run(*places)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run(*places)
    torch._foreach_copy_(state, saved)

    def replay(*inputs: Tensor) -> Outputs:
        torch._foreach_copy_(places, list(inputs))
        graph.replay()
        return outputs

    return replay
