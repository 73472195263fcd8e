"""Calibration in execution order, with each layer refitted to the full-precision network.

A first pass in full precision stores the target output of each layer. In a second pass, each quantizer is set and each
layer is fitted when its input arrives, which then comes from layers that are already quantized. If a layer adds to a
residual stream, its target also compensates for the error of the stream, so errors do not add up from block to block.

Fitted are the quantized linear layers and convolutions, and the full-precision convolutions behind them. Fits use a
sample of the rows, each a token or the patch under the kernel, and of the targets: memory is bounded, see `TARGETS`.

Least squares shrinks a weight where its input is noisy. Such errors add up in a residual stream, which is right only
for streams that targets compensate for. In other networks, weights are only rounded with feedback, and biases fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.functional.reconstruct import Fit, round_with_feedback
from compsrt_basicsr.quant.layer_errors import naming_layer
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.quantizer import Arrival, Quantizer, quantizers
from compsrt_basicsr.quant.residual_streams import ResidualStream, residual_streams
from compsrt_basicsr.quant.sampling import chosen_rows, some

ROWS = 16384  # rows used for a fit; more did not change the results
FEWEST_ROWS = 2048  # the same where many targets share the memory
TARGETS = 2**30  # bytes of all targets together, unless that is less than FEWEST_ROWS
CHUNK = 2**24  # bytes of the rows that a fit reads at once, in float64

Linear = QuantLinear | QuantSplitLinear
Convolution = QuantConv2d | nn.Conv2d
Targets = dict[nn.Module, Tensor]
Search = Callable[[Quantizer, Tensor], None]


@torch.no_grad()
def full_precision_targets(network: nn.Module, images: Tensor) -> Targets:
    """Records, for each layer to be fitted, its full-precision output plus the residual stream that it adds to.

    Args:
        network: a quantized network that still has its full-precision weights.
        images: (N, 3, H, W) in [0, 1].

    Returns:
        (R, O) float32 per layer, for all rows or a sample of them.
    """
    targets: Targets = {}
    layers = _fitted(network)
    rows = _sample_size(layers)
    streams = _Streams(network, rows)

    def keep(layer: nn.Module, _: object, output: Tensor | list[Tensor]) -> None:
        if layer not in targets:  # if a layer runs several times, the first run counts
            targets[layer] = _rows(layer, output, rows) + streams.take(layer)

    with ExitStack() as hooks, observing(network):
        for handle in (*streams.watch(), *(layer.register_forward_hook(keep) for layer in layers)):
            hooks.callback(handle.remove)
        network(images)
    return targets


@torch.no_grad()
def reconstruct_(
    network: nn.Module, images: Tensor, targets: Targets, search: Search, least_squares: bool | None = None
) -> None:
    """Sets all quantizers and refits all layers with targets, in place.

    Args:
        network: the network, pruned or not; its transforms must be exact.
        images: those given to `full_precision_targets`.
        targets: the result of `full_precision_targets`; consumed.
        search: sets the bounds of a quantizer from its input.
        least_squares: whether weights are fitted before they are rounded; None: where residual streams are known.

    Raises:
        CompSRTError: if the inputs or targets of a layer are not finite, or its weight becomes too large for float32.
    """
    was_training = network.training
    with ExitStack() as hooks:
        hooks.callback(network.train, was_training)
        network.eval()
        _Reconstruction(network, targets, search, least_squares).watch(hooks)
        network(images)


class _Reconstruction:
    """Sets quantizers and refits layers when their inputs arrive."""

    def __init__(self, network: nn.Module, targets: Targets, search: Search, least_squares: bool | None) -> None:
        self._network, self._targets, self._search = network, targets, search
        self._layers = _fitted(network)
        self._streams = _Streams(network, _sample_size(self._layers))
        self._least_squares = self._streams.known if least_squares is None else least_squares
        self._names = {module: name for name, module in network.named_modules()}
        self._has_errors = False  # whether the pass has reached a quantizer

    def watch(self, hooks: ExitStack) -> None:
        """Looks at the inputs of all layers and quantizers until `hooks` is closed."""
        inside = {
            module
            for layer in self._layers
            for name, module in layer.named_modules()
            if name != 'out_quantizer'  # the layer calls it with its own, refitted output
        }
        for handle in self._streams.watch():
            hooks.callback(handle.remove)
        for layer in self._layers:
            if isinstance(layer, Linear):
                hooks.enter_context(_forward(layer, partial(self._run_linear, layer)))
            else:
                hooks.callback(layer.register_forward_pre_hook(self._look).remove)
        for quantizer in quantizers(self._network).values():
            if quantizer not in inside:
                hooks.callback(setattr, quantizer, 'observer', None)
                quantizer.observer = Arrival(self._set)

    def _set(self, quantizer: Quantizer, x: Tensor) -> None:
        self._has_errors = True
        self._search(quantizer, x)

    def _run_linear(self, layer: Linear, x: Tensor) -> Any:  # transforms the input once
        rows = layer.transform(layer.equalized(x))
        self._refit(layer, rows)
        return layer.from_transformed(rows)

    def _look(self, layer: Any, inputs: tuple[Tensor, ...]) -> None:
        self._refit(layer, inputs[0])

    def _refit(self, layer: Any, x: Tensor) -> None:
        target, stream = self._targets.pop(layer, None), self._streams.take(layer)
        if target is None:
            return
        apart = torch._C.DisableTorchFunction()  # no product of the fit is one of the network's, see quant/products.py
        with apart, naming_layer(self._names[layer] or type(layer).__name__, 'reconstruct: false'):
            if isinstance(layer, nn.Conv2d):
                if self._has_errors and self._least_squares:
                    _refit_convolution(layer, x, target - stream)
                return
            self._has_errors = True
            if isinstance(layer, QuantConv2d):
                x = layer.transformed_input(x)
                _refit_quantized_convolution(layer, x, target - stream, self._search, self._least_squares)
            else:
                _refit_linear(layer, x, target - stream, self._search, self._least_squares)


@contextmanager
def _forward(module: Any, forward: Callable[[Tensor], Any]) -> Iterator[None]:
    """Replaces the `forward` of a module, which may be that of an executor."""
    replaced = vars(module).get('forward')
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if replaced is not None:
            module.forward = replaced


def _fitted(network: nn.Module) -> list[nn.Module]:
    kinds = (QuantLinear, QuantSplitLinear, QuantConv2d)
    return [m for m in network.modules() if isinstance(m, kinds) or type(m) is nn.Conv2d]


def _sample_size(layers: Iterable[Any]) -> int:
    """Returns how many rows each fit may use, so that the targets of all layers fit into `TARGETS` bytes."""
    outputs = sum(layer.weight.shape[0] for layer in layers)
    return min(ROWS, max(FEWEST_ROWS, TARGETS // (4 * max(outputs, 1))))


class _Streams:
    """The current values of a network's residual streams during a forward pass."""

    def __init__(self, network: nn.Module, rows: int) -> None:
        self._streams, self._rows = residual_streams(network), rows
        self._seen: dict[nn.Module, Tensor] = {}

    @property
    def known(self) -> bool:
        return bool(self._streams)

    def watch(self) -> list[RemovableHandle]:
        return [stream.at.register_forward_pre_hook(partial(self._look, stream)) for stream in self._streams]

    def _look(self, stream: ResidualStream, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen[stream.layer] = some(stream.arrange(*inputs).flatten(0, -2), self._rows)

    def take(self, layer: nn.Module) -> Tensor | float:
        return self._seen.pop(layer, 0.0)


def _rows(layer: nn.Module, output: Tensor | list[Tensor], count: int) -> Tensor:
    """Returns at most `count` rows of a layer's output, (R, O): one per token, image by image in raster order."""
    if not isinstance(output, Tensor):
        return torch.cat([_rows(layer, part, count) for part in output], -1)
    rows = output.movedim(1, -1) if isinstance(layer, (nn.Conv2d, QuantConv2d)) else output
    return some(rows.reshape(-1, rows.shape[-1]), count)


def _refit_linear(layer: Linear, x: Tensor, target: Tensor, search: Search, least_squares: bool) -> None:
    """Sets bounds, weight and bias from transformed inputs (..., n) and targets (R, O)."""
    act, *others = layer.act_quantizers()
    for each in (act, *others):
        if isinstance(each, Quantizer):
            search(each, x)
    chosen = some(x.flatten(0, -2), len(target))
    fit = Fit(_chunks(act(chosen), target), layer.bias is not None)  # parts have the same input and the same grid
    weight = layer.transformed_weight().double()
    weight = fit.weight(weight, layer.keep_mask) if least_squares else weight
    weight = _rounded(weight, [fit], layer.weight_quantizers(), search, layer.keep_mask)
    layer.take_transformed(weight.to(x.dtype))
    if layer.bias is not None:
        layer.bias.copy_(fit.bias(weight))


def _refit_quantized_convolution(
    layer: QuantConv2d, x: Tensor, target: Tensor, search: Search, least_squares: bool
) -> None:
    """Sets bounds, weight and bias from transformed inputs (B, n, H, W) and targets (R, O)."""
    if isinstance(layer.act_quantizer, Quantizer):
        search(layer.act_quantizer, x)
    fits = _convolution_fits(layer, layer.padded(layer.act_quantizer(x)), target)
    weight = layer.transformed_weight().flatten(1).double()
    keep = None if layer.keep_mask is None else layer.keep_mask.flatten(1)
    if least_squares:
        weight = _fitted_weight(fits, weight, keep)
    weight = _rounded(weight, fits, layer.weight_quantizers(), search, keep)
    layer.take_transformed(weight.to(x.dtype).view(layer.transformed_shape))
    _set_bias(layer, fits, weight)


def _refit_convolution(layer: nn.Conv2d, x: Tensor, target: Tensor) -> None:
    """Sets weight and bias of a full-precision convolution from inputs (B, C, H, W) and targets (R, O)."""
    mode = 'constant' if layer.padding_mode == 'zeros' else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode)
    fits = _convolution_fits(layer, padded, target)
    weight = _fitted_weight(fits, layer.weight.flatten(1).double(), None)
    layer.weight.copy_(weight.view_as(layer.weight))
    _set_bias(layer, fits, weight)


def _convolution_fits(layer: Convolution, padded: Tensor, target: Tensor) -> list[Fit]:
    """Returns the fit of each group of a convolution from its input with borders, (B, C, H, W), and targets (R, O)."""
    pairs = zip(padded.chunk(layer.groups, 1), target.chunk(layer.groups, 1))
    return [Fit(_patches(layer, inputs, y), layer.bias is not None) for inputs, y in pairs]


def _fitted_weight(fits: list[Fit], weight: Tensor, keep: Tensor | None) -> Tensor:
    """Returns the least-squares weight of a convolution near `weight`, (O, n) with n = C / groups * kh * kw."""
    groups = len(fits)
    keeps = [None] * groups if keep is None else keep.chunk(groups)
    return torch.cat([fit.weight(start, kept) for fit, start, kept in zip(fits, weight.chunk(groups), keeps)])


def _set_bias(layer: Convolution, fits: list[Fit], weight: Tensor) -> None:
    """Sets the bias that belongs to a weight (O, n)."""
    if layer.bias is not None:
        layer.bias.copy_(torch.cat([fit.bias(w) for fit, w in zip(fits, weight.chunk(len(fits)))]))


def _patches(layer: Convolution, padded: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the patches of padded inputs (B, C, H, W) under the kernel, (r, C kh kw), with their targets (r, O)."""
    height, width = layer.weight.shape[2:]
    (down, right), (tall, wide) = layer.stride, layer.dilation
    view = padded.unfold(2, (height - 1) * tall + 1, down).unfold(3, (width - 1) * wide + 1, right)
    view = view[..., ::tall, ::wide].permute(0, 2, 3, 1, 4, 5)  # (B, H', W', C, kh, kw)
    rows, columns = view.shape[1:3]
    places = chosen_rows(view.shape[:3].numel(), len(target), padded.device)
    size = max(CHUNK // (8 * view.shape[3:].numel()), 1)
    for chosen, y in zip(places.split(size), target.split(size)):
        yield view[chosen // (rows * columns), chosen // columns % rows, chosen % columns].flatten(1), y


def _chunks(inputs: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(CHUNK // (8 * inputs.shape[1]), 1)
    return zip(inputs.split(size), target.split(size))


def _rounded(
    weight: Tensor, fits: list[Fit], quantizers: list[Quantizer], search: Search, keep: Tensor | None
) -> Tensor:
    """Searches the grids of a fitted weight (O, n), one for each block of rows, and rounds it to them.

    Returns it as it is if weights stay float.
    """
    if not isinstance(quantizers[0], Quantizer):
        return weight
    grids = []
    for quantizer, block in zip(quantizers, weight.chunk(len(quantizers))):
        search(quantizer, block.float())
        grids.append([g.double().expand(len(block), 1) for g in quantizer.grid()])
    scale, zero = (torch.cat(parts) for parts in zip(*grids))
    groups, levels = len(fits), quantizers[0].levels
    keeps = [None] * groups if keep is None else keep.chunk(groups)
    parts = zip(fits, weight.chunk(groups), scale.chunk(groups), zero.chunk(groups), keeps)
    return torch.cat([round_with_feedback(w, f.moment, s, z, levels, kept) for f, w, s, z, kept in parts])
