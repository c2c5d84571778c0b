"""How an algorithm's `update`, `act` and `update_statistics` are run where they are not run as they are written.

`compile`  each traced once - forward, backward, optimizers and targets alike - into one graph, which is compiled.
`graph`    on CUDA: the compiled graph captured as one CUDA graph, which the host launches without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from dsac import compiler_cache
from dsac.algorithms.base import Algorithm
from dsac.nn.optimizer import BETA_MEAN, BETA_SQUARE, Adam, Parts

Function = Callable[..., Any]


class Compiled:
    """A function of inputs and of the algorithm's own tensors, compiled at its first call for the shapes of its inputs.

    It returns a tensor, tensors by name, or None. mode: compile or graph.
    """

    def __init__(self, algorithm: Algorithm, function: Function, mode: str) -> None:
        self.algorithm, self.function, self.mode = algorithm, function, mode
        self.run: Function | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        if self.run is None:
            self.run = compiled(self.algorithm, self.function, inputs)
            if self.mode == "graph":
                self.run = captured(self.algorithm, self.run, inputs)
        return self.run(*inputs)


def compiled(algorithm: Algorithm, function: Function, inputs: Sequence[Tensor]) -> Function:
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
    forms: list[TreeSpec] = []

    def call_of_graph() -> Any:
        shapes = FakeTensorMode(shape_env=ShapeEnv())  # only with these is the compiler's cache on disk used
        with tracing(TracingContext(shapes)):  # without a context each operation would make one of its own
            graph, form = traced(algorithm, function, state, inputs)
            forms[:] = [form]
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
    def run(*inputs: Tensor) -> Any:
        return tree_unflatten(call(*tensors, *inputs), forms[0])

    return run


def traced(
    algorithm: Algorithm, function: Function, state: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[torch.fx.GraphModule, TreeSpec]:
    """The operations of a function as a functional graph of (*state, *inputs), and the form of its output.

    Tracing runs the function, whose traces on the state are undone. It sees below autograd, so that the graph holds
    forward and backward alike; what is computed twice is then computed once, and state is written at the end.
    """
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.dialect.common.cse_pass import CSEPass

    forms: list[TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:  # the state among them are the very tensors that the function reaches
        leaves, form = tree_flatten(function(*tensors[len(state) :]))
        forms[:] = [form]
        return leaves

    optimizers = [module for module in algorithm.modules() if isinstance(module, Adam)]
    saved = [tensor.detach().clone() for tensor in state]
    for optimizer in optimizers:
        vars(optimizer)["move"] = partial(move_in_plain_operations, optimizer)
    try:
        graph = make_fx(flat)(*state, *inputs)
    finally:
        for optimizer in optimizers:
            del vars(optimizer)["move"]
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
    return functional, forms[0]


def move_in_plain_operations(optimizer: Adam, parts: Parts, skip: Tensor) -> None:
    """`Adam.move` over all learners at once, in operations that a compiler fuses with what comes before and after."""
    for parameter, gradient, mean, square in zip(*parts, strict=True):
        per_learner = (-1, *[1] * (parameter.ndim - 1))
        count, skipped = optimizer.count.view(per_learner), skip.view(per_learner)
        scale = torch.sqrt(1 - BETA_SQUARE**count)
        rate = optimizer.learning_rate.to(optimizer.count.dtype) * scale / (1 - BETA_MEAN**count)
        new_mean = torch.lerp(mean, gradient, 1 - BETA_MEAN)
        new_square = BETA_SQUARE * square + (1 - BETA_SQUARE) * gradient.square()
        moved = parameter - rate * new_mean / (new_square.sqrt() + optimizer.epsilon * scale)
        mean.copy_(torch.where(skipped, mean, new_mean))
        square.copy_(torch.where(skipped, square, new_square))
        parameter.copy_(torch.where(skipped, parameter, moved))


def captured(algorithm: Algorithm, run: Function, inputs: Sequence[Tensor]) -> Function:
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

    def replay(*inputs: Tensor) -> Any:
        torch._foreach_copy_(places, list(inputs))
        graph.replay()
        return outputs

    return replay
