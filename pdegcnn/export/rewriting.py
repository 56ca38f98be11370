"""Traced graphs run again with other operators, to be traced once more."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from pdegcnn.export.operators import PLAIN


class PlainInterpreter(fx.Interpreter):
    """Runs a graph with this library's operators replaced by plain torch."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Apply an operator."""
        if isinstance(target, torch._ops.OpOverload) and target.namespace == "pdegcnn":
            name = target._schema.name.partition("::")[2]
            if name not in PLAIN:
                raise ValueError(f"model: expected operators with a plain version in pdegcnn.export, got {target}")
            return PLAIN[name](*args, **kwargs)
        return super().call_function(target, args, kwargs)


class Rewritten(nn.Module):
    """A graph with the parameters and buffers of its module, under their names, run by an interpreter."""

    def __init__(self, module: fx.GraphModule, interpreter: type[fx.Interpreter]) -> None:
        super().__init__()
        self.__dict__["_modules"], self.__dict__["_parameters"] = module._modules, module._parameters
        self.__dict__["_buffers"] = module._buffers
        self.__dict__["_non_persistent_buffers_set"] = module._non_persistent_buffers_set
        self.__dict__["graph"], self.__dict__["interpreter"] = module.graph, interpreter
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):  # constants that are not buffers
                self.__dict__[name] = value

    def forward(self, *inputs: Any) -> Any:
        """Run the graph."""
        run: Any = vars(self)["interpreter"]
        return run(self, graph=vars(self)["graph"]).run(*inputs)
