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
from dsac.algorithms.base import Algorithm
from dsac.nn.optimizer import Adam

Outputs = dict[str, Tensor]
Run = Callable[..., Outputs]


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
