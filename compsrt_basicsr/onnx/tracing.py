"""Any network as an ONNX graph for images of any size, with marks where quantizers and quantized weights are.

PyTorch's tracing exporter writes the graph. Quantizers and quantized layers appear in it as operators of the domain
`MARKS`, which onnx/qdq.py replaces.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import ModelProto
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.marking import MARKS, marking
from compsrt_basicsr.onnx.masks import short_masks
from compsrt_basicsr.onnx.model import INPUT, OUTPUT
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

OPSET = 20
# Pixels at least, of the image that is traced: different, so that a confusion of them shows, and odd, because many
# networks pad only images whose sides are no multiples of their window, and a trace keeps one branch.
_SIDES = (37, 53)


class _Mark(torch.autograd.Function):
    """Returns a copy of x, and an operator of the domain `MARKS` in a traced graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str, name: str) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, kind: str, name: str) -> Any:
        return g.op(f'{MARKS}::{kind}', x, name_s=name).setType(x.type())


class _AnySize(nn.Module):
    """Pads an image of any size like `compsrt upscale`, runs the network and crops; the graph computes the sizes."""

    def __init__(self, network: nn.Module, shape: Geometry) -> None:
        super().__init__()
        self.network, self.shape = network, shape
        self.least = 0
        if isinstance(network, SpandrelNetwork):
            if network._square:
                raise CompSRTError(f'{network.arch} takes square images only: its size cannot be left open in a file.')
            self.least = network.minimum + -network.minimum % shape.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Maps (1, C, H, W) to (1, C', H scale, W scale)."""
        height, width = x.shape[-2:]
        for axis in (2, 3):
            if self.shape.multiple > 1:
                x = _mirrored(x, axis, self.shape.multiple)
            if self.least > 1:
                x = _reflected(x, axis, self.least)
        inner = self.network
        y = inner._call(inner.model, x) if isinstance(inner, SpandrelNetwork) else inner(x)
        return y[:, :, : height * self.shape.scale, : width * self.shape.scale]


def _mirrored(x: Tensor, axis: int, multiple: int) -> Tensor:
    """Mirrors one side to a multiple, as `pad_to_multiple` does."""
    length: Any = torch._shape_as_tensor(x)[axis]
    total: Any = torch.div(length + (multiple - 1), multiple, rounding_mode='floor') * multiple
    position = torch.remainder(torch.arange(total), 2 * length)
    return x.index_select(axis, torch.minimum(position, 2 * length - 1 - position))


def _reflected(x: Tensor, axis: int, least: int) -> Tensor:
    """Mirrors one side without the edge pixel to at least `least` pixels, as `SpandrelNetwork` does."""
    length: Any = torch._shape_as_tensor(x)[axis]
    return padded_by_indices(x, axis, 0, torch.clamp(least - length, min=0), 'reflect')


def padded_by_indices(x: Tensor, axis: int, before: Any, after: Any, mode: str) -> Tensor:
    """Pads one side like `torch.nn.functional.pad`, of which it takes `mode`, by gathering pixels."""
    length: Any = torch._shape_as_tensor(x)[axis]
    position = torch.arange(length + before + after) - before
    if mode == 'circular':
        position = torch.remainder(position, length)
    elif mode == 'replicate':
        position = torch.minimum(torch.clamp(position, min=0), length - 1)
    else:
        period = torch.clamp(2 * length - 2, min=1)
        position = torch.remainder(position, period)
        position = torch.minimum(position, period - position)
    return x.index_select(axis, position)


class GatheredPadding(TorchFunctionMode):
    """Gathers pixels instead of padding where the widths are computed: OpenVINO leaves out such Pad operators."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replaces calls of `torch.nn.functional.pad`."""
        if func is F.pad:
            x, widths, mode, _ = _pad_arguments(*args, **(kwargs or {}))
            if mode in ('reflect', 'replicate', 'circular') and any(isinstance(width, Tensor) for width in widths):
                for number, (before, after) in enumerate(zip(widths[::2], widths[1::2]), 1):
                    if isinstance(before, Tensor) or isinstance(after, Tensor) or before or after:
                        x = padded_by_indices(x, x.ndim - number, before, after, mode)
                return x
        return func(*args, **(kwargs or {}))


def _pad_arguments(
    input: Tensor, pad: Sequence[Any], mode: str = 'constant', value: float | None = None
) -> tuple[Tensor, Sequence[Any], str, float | None]:
    return input, pad, mode, value


def trace_network(
    network: nn.Module,
    shape: Geometry,
    marked: Sequence[str] = (),
    plain: Sequence[str] = (),
    gather_padding: bool = False,
    exact: bool = False,
) -> ModelProto:
    """Traces a network in eval mode.

    Args:
        network: it computes the same afterwards.
        shape: its geometry.
        marked: names of quantizers that get a mark, see `marking`.
        plain: names of quantized layers whose input is not quantized, see `marking`.
        gather_padding: see `GatheredPadding`; ONNX Runtime takes longer for it.
        exact: see `marking`.

    Raises:
        CompSRTError: if PyTorch cannot export it.
    """
    sides = (shape.multiple * (-(-side // shape.multiple) | 1) for side in _SIDES)
    image = torch.rand(1, shape.channels, *sides, generator=torch.Generator().manual_seed(0))
    buffer: Any = io.BytesIO()  # the tracing exporter takes one, whatever its type says
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            GatheredPadding() if gather_padding else nullcontext(),
            _any_batch(),
            _no_dump(),
            _functions_inlined(),
            short_masks(network),
            marking(network, marked, plain, _Mark.apply, exact=exact),
        ):
            warnings.simplefilter('ignore')  # of tracing: the result is compared at other sizes instead
            torch.onnx.export(
                _AnySize(network, shape).eval(),  # else the exporter leaves the network in training mode
                (image,),
                buffer,
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={
                    INPUT: {0: 'batch', 2: 'height', 3: 'width'},
                    OUTPUT: {0: 'batch', 2: 'scaled_height', 3: 'scaled_width'},
                },
                opset_version=OPSET,
                do_constant_folding=False,  # engines do when they load the file, which is smaller so
                custom_opsets={MARKS: 1} if marked or quantized_layers(network) else {},  # it warns of unused ones
            )
    except CompSRTError:
        raise
    except Exception as error:  # of any kind: the code of the network is unknown
        if is_out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip('.')
        raise CompSRTError(f'{type(network).__name__} cannot be exported to ONNX ({reason}).') from error
    return onnx.load_from_string(buffer.getvalue())


@contextmanager
def _any_batch() -> Iterator[None]:
    """Replaces a function of BasicSR's SwinIR that makes a number of the batch size, which a trace would keep."""

    def window_reverse(windows: Tensor, window_size: int, h: Any, w: Any) -> Tensor:
        x = windows.view(-1, h // window_size, w // window_size, window_size, window_size, windows.shape[-1])
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, windows.shape[-1])

    module, name = sys.modules[SwinIR.__module__], 'window_reverse'
    before = getattr(module, name)
    setattr(module, name, window_reverse)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keeps PyTorch from printing the graph of a network that it cannot export, thousands of lines."""
    module, name = torch._C, '_jit_onnx_log'
    before = getattr(module, name, None)
    setattr(module, name, lambda *_: None)
    try:
        yield
    finally:
        setattr(module, name, before)


class _Context:
    """What a forward of `torch.autograd.Function` writes, and nobody reads."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Does nothing, as the others."""

    mark_dirty = mark_non_differentiable = set_materialize_grads = save_for_backward


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Calls forwards of the network's own `torch.autograd.Function`s directly.

    PyTorch traces them as graphs of their own, and fails where they use values of the outer one, such as a mark.
    """
    original = vars(torch.autograd.Function)['apply']

    def apply(cls: Any, *args: Any) -> Any:
        if hasattr(cls, 'symbolic'):
            return original.__get__(None, cls)(*args)
        old = cls.setup_context is torch.autograd.Function.setup_context
        return cls.forward(_Context(), *args) if old else cls.forward(*args)

    torch.autograd.Function.apply = classmethod(apply)
    try:
        yield
    finally:
        torch.autograd.Function.apply = original
