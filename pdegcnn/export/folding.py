"""Constant folding of a traced graph: nodes that do not depend on inputs are computed once and kept."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

RANDOM = ("rand", "bernoulli", "dropout", "normal", "multinomial")
"""Parts of the names of operators that give something else each time."""


def fold(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Replace every node that depends on parameters and constants only by a buffer; the rest is left as it is.

    Kernels, filters and matrix exponentials become numbers, so the graph is shorter, faster, and no longer trainable
    there.
    """
    graph, known = graph_module.graph, {}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            known[node] = _attribute(graph_module, str(node.target))
        elif node.op == "call_function" and _foldable(node, known):
            args, kwargs = map_arg((node.args, node.kwargs), lambda n: known[n])
            with torch.no_grad():
                known[node] = node.target(*args, **kwargs)
    known = _untouched(graph, known)
    count = 0
    for node, value in known.items():
        if node.op == "get_attr" or not isinstance(value, Tensor):
            continue
        if all(user in known for user in node.users):
            continue
        while hasattr(graph_module, name := f"folded{count}"):
            count += 1
        graph_module.register_buffer(name, value.detach().clone(memory_format=torch.contiguous_format))
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.get_attr(name))
    graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    _drop_unused(graph_module)
    return graph_module


def _foldable(node: fx.Node, known: dict[fx.Node, Any]) -> bool:
    name = str(node.target)
    pure = isinstance(node.target, torch._ops.OpOverload) or node.target is operator.getitem
    mutating = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
    if not pure or mutating or any(word in name for word in RANDOM):
        return False
    return all(n in known for n in node.all_input_nodes)


def _untouched(graph: fx.Graph, known: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
    """Return the constants that no later operator writes to, nor to what they were made of."""
    written: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        target = node.target
        if isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable:
            written.update(node.all_input_nodes)
        if node in written and node in known:
            written.update(node.all_input_nodes)
    kept: dict[fx.Node, Any] = {}
    for node, value in known.items():
        if node not in written and all(n in kept for n in node.all_input_nodes):
            kept[node] = value
    return kept


def _attribute(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


def _drop_unused(module: fx.GraphModule) -> None:
    """Delete parameters and buffers that no node reads any more."""
    used = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}
    for name, _ in [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]:
        if name not in used:
            path, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(path), leaf)
