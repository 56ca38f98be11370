"""Export of models as traced programs, as modules of plain torch, and as ONNX.

A program needs torch alone: write it by ``torch.export.save(pg.export.program(model, x), "model.pt2")`` and run
``torch.export.load("model.pt2").module()`` in a process where this library is not installed.

Every network of :mod:`pdegcnn.models` can be traced. Layers whose steps depend on data or parameters cannot:
``kernel_size="auto"``, and convection and diffusion on meshes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from pdegcnn import _checks
from pdegcnn._files import write_file
from pdegcnn._modules import eval_mode
from pdegcnn.export.folding import fold
from pdegcnn.export.real import RealInterpreter
from pdegcnn.export.rewriting import PlainInterpreter, Rewritten

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["program", "to_onnx", "to_plain"]


def program(
    model: nn.Module, *inputs: Any, frozen: bool = False, batch: bool = True, dynamic_shapes: Any = None
) -> ExportedProgram:
    """Trace a model in evaluation mode to a program of standard torch operators.

    Args:
        model: any module; its mode and parameters do not change.
        inputs: arguments of its ``forward``: tensors of any dtype, or nested lists and dictionaries of tensors.
        frozen: compute kernels and filters once and store them as constants: faster, but without trainable parameters.
        batch: leave the size of the first axis of every input that has axes open.
        dynamic_shapes: open sizes as in ``torch.export.export``: a tuple with an entry for each input, such as
            ``({0: Dim("batch"), 2: Dim("height", min=16), 3: Dim("width", min=16)},)``. It replaces ``batch``. A
            network that halves sizes needs a minimum that leaves two pixels on its coarsest grid.

    Returns:
        The program; ``program.module()`` runs it, ``torch.export.save`` writes it.

    Raises:
        TypeError: if ``model`` is not a module, inputs are missing, or a flag is not a bool.
        ValueError: if an input is empty, or the model cannot be traced (its steps depend on data, as with
            ``kernel_size="auto"``).
    """
    inputs, shapes = _open_sizes(model, inputs, batch, dynamic_shapes)
    traced = _rewritten(model, inputs, shapes, _checks.flag("frozen", frozen), PlainInterpreter)
    return _trace(fold(_bare(traced)), inputs, shapes) if frozen else traced


def to_plain(
    model: nn.Module, *inputs: Any, frozen: bool = False, batch: bool = True, dynamic_shapes: Any = None
) -> fx.GraphModule:
    """Return the model as a module of plain torch with the same outputs, which does not need this library.

    Arguments and errors are as in :func:`program`. Parameters keep their names and can be trained further unless
    ``frozen``. The module is in evaluation mode. Sizes other than the batch are those of the inputs.

    Args:
        model: any module; its mode and parameters do not change.
        inputs: arguments of its ``forward``, as in :func:`program`.
        frozen: store kernels and filters as constants: faster, but without trainable parameters.
        batch: leave the size of the first axis of every input that has axes open.
        dynamic_shapes: other open sizes, as in :func:`program`.
    """
    inputs, shapes = _open_sizes(model, inputs, batch, dynamic_shapes)
    plain = _bare(_rewritten(model, inputs, shapes, _checks.flag("frozen", frozen), PlainInterpreter))
    return fold(plain) if frozen else plain


def to_onnx(model: nn.Module, args: Any, path: str | Path, *, batch: bool = True, dynamic_shapes: Any = None) -> Path:
    """Write the model, frozen, as ONNX of standard operators; needs the extra ``export``.

    Max-plus convolutions become loops over blocks of the signal and over the taps that can attain the maximum there.
    Fourier transforms along rings become matrix products, because ONNX has no complex numbers. Optimisation of the
    graph is left to the runtime. An interrupted call leaves no partial file.

    Args:
        model: any module whose inputs and outputs are real tensors.
        args: arguments of its ``forward``, one tensor or a tuple, as in ``torch.onnx.export``.
        path: the file, in an existing folder.
        batch: leave the size of the first axis open.
        dynamic_shapes: as in :func:`program`.

    Returns:
        The path.

    Raises:
        ImportError: if ``onnx`` or ``onnxscript`` is not installed.
        ValueError: as in :func:`program`, or for complex numbers that cannot be split into real ones.
        FileNotFoundError: if the folder does not exist.
    """
    if isinstance(args, (str, Path)):
        raise TypeError(f"args: expected inputs of the model, got the path {str(args)!r}: to_onnx(model, args, path)")
    path, inputs = _checks.path(path), args if isinstance(args, tuple) else (args,)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that exists, got {str(path)!r}")
    translations = _translations()
    if any(isinstance(value, Tensor) and value.is_complex() for value in tree_leaves(inputs)):
        raise TypeError("args: expected real tensors, because ONNX has no complex numbers, got complex ones")
    inputs, shapes = _open_sizes(model, inputs, batch, dynamic_shapes)
    traced = _rewritten(model, inputs, shapes, True, RealInterpreter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own notices
        # not optimised: the optimiser compares all pairs of nodes, for minutes, and runtimes optimise when they load
        made = torch.onnx.export(
            traced, dynamo=True, verbose=False, optimize=False, custom_translation_table=translations
        )
    assert made is not None
    write_file(path, made.save)
    return path


def _translations() -> dict[Any, Any]:
    """Return the operators that are written in ONNX; raise if what writes them is missing."""
    try:
        import onnx  # noqa: F401

        from pdegcnn.export.onnx_operators import translations

        return translations()
    except ImportError as error:
        raise ImportError(f"to_onnx needs the extra: pip install 'pdegcnn[export]' ({error})") from error


def _check_model(model: Any, inputs: tuple[Any, ...]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not inputs:
        raise TypeError("inputs: expected arguments of the model's forward, such as an example image, got none")
    for value in tree_leaves(inputs):
        if isinstance(value, Tensor):
            if value.layout is not torch.strided:
                raise TypeError(f"inputs: expected dense tensors, got layout {value.layout}")
            if 0 in value.shape:  # an empty batch cannot be traced
                raise ValueError(f"inputs: expected no empty axis, got shape {tuple(value.shape)}")


def _open_sizes(model: Any, inputs: tuple[Any, ...], batch: bool, dynamic_shapes: Any) -> tuple[tuple[Any, ...], Any]:
    """Return inputs of at least two entries (tracing takes a size of one for a constant) and which sizes are open."""
    _check_model(model, inputs)
    if not _checks.flag("batch", batch) and dynamic_shapes is None:
        return inputs, None
    twice = tree_map(lambda v: torch.cat((v, v)) if isinstance(v, Tensor) and v.shape[:1] == (1,) else v, inputs)
    if dynamic_shapes is not None:
        return twice, dynamic_shapes
    size = torch.export.Dim("batch")
    return twice, tree_map(lambda v: {0: size} if isinstance(v, Tensor) and v.ndim else None, twice)


def _rewritten(
    model: nn.Module, inputs: tuple[Any, ...], shapes: Any, frozen: bool, interpreter: type[fx.Interpreter]
) -> ExportedProgram:
    """Return the model as a program without this library's operators."""
    with eval_mode(model), torch.no_grad():
        model(*inputs)  # compute lazy tables with real values first
        module = _with_own_values(_bare(_trace(model, inputs, shapes)))
        rewritten = Rewritten(fold(module) if frozen else module, interpreter)
        return _trace(rewritten, inputs, None if shapes is None else (shapes,))


def _with_own_values(module: fx.GraphModule) -> fx.GraphModule:
    """Copy parameters and buffers, which a trace shares with the model: training the one must not change the other."""
    copies: dict[Tensor, Tensor] = {}  # what the model uses twice stays one
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                copies[value] = copies[value] if value in copies else _copy(value)
                part._parameters[name] = copies[value]  # pyright: ignore[reportArgumentType]
        for name, value in part._buffers.items():
            if value is not None and name not in part._non_persistent_buffers_set:
                copies[value] = copies[value] if value in copies else _copy(value)
                part._buffers[name] = copies[value]
    return module


def _copy(value: Tensor) -> Tensor:
    copy = value.detach().clone()
    return nn.Parameter(copy, value.requires_grad) if isinstance(value, nn.Parameter) else copy


def _trace(model: nn.Module, inputs: tuple[Any, ...], shapes: Any) -> ExportedProgram:
    try:
        return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        fixes = [line.strip() for line in lines if line.startswith("  ") and " = Dim(" in line]
        reason = lines[0] + (f" Open sizes that would do: {', '.join(fixes)}" if fixes else "")
        raise ValueError(f"model: expected a model that torch.export can trace, got: {reason}") from error


def _bare(traced: ExportedProgram) -> fx.GraphModule:
    """Return the program as a module, without the checks of its inputs that torch adds."""
    module = traced.module()
    assert isinstance(module, fx.GraphModule)
    for node in list(module.graph.nodes):
        check = node.op == "call_module" and "_guards_fn" in str(node.target)
        if check or node.target is torch.ops.aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    module.recompile()
    return module
