"""Calibration of a network: preconditioning, pruning, bounds of all quantizers, reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

import torch
from torch import Tensor, nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.bounds import search_bounds
from compsrt_basicsr.quant.equalization import equalize_
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.merging import fold_corrections_
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.precondition import precondition_
from compsrt_basicsr.quant.pruning import mask_blocks, prune_, pruned_layers
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.quant.reconstruct import full_precision_targets, reconstruct_
from compsrt_basicsr.utils.progress import SILENT, TERMINAL


class _Recent:
    """The bounds found last: the parts of a layer quantize the same input alike."""

    def __init__(self) -> None:
        self._x: Callable[[], Tensor | None] = lambda: None
        self._settings: tuple[object, ...] = ()
        self._bounds: tuple[Tensor, Tensor] | None = None

    def bounds(self, quantizer: Quantizer, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Returns the bounds of a quantizer whose input is the one that was searched last, or None."""
        return self._bounds if self._x() is x and self._settings == _settings(quantizer, x) else None

    def keep(self, quantizer: Quantizer, x: Tensor, bounds: tuple[Tensor, Tensor]) -> None:
        """Remembers bounds, and the input for as long as others use it, unless it is a tensor of inference mode."""
        if not x.is_inference():  # those do not count their changes in place
            self._x, self._settings, self._bounds = ref(x), _settings(quantizer, x), bounds


def _settings(quantizer: Quantizer, x: Tensor) -> tuple[object, ...]:
    """Returns what a search in a tensor depends on, the number of its changes in place included."""
    q = quantizer
    view = None if q.search_view is None else id(q.search_view)
    return q.bits, q.code_range, q.symmetric, q.zero_on_grid, q.vector_axis, q.lower.shape, view, x._version


@torch.no_grad()
def calibrate(
    network: nn.Module,
    images: Tensor,
    config: CalibrationConfig,
    progress: bool = True,
    prune_ratio: float | None = None,
) -> None:
    """Calibrates a quantized network in place.

    Preconditions and prunes the weights if the configurations ask for it, then runs one full-precision forward pass in
    which each quantizer searches its bounds on its input, as the published calibration does. Bounds of pruned weights
    are searched on the kept coefficients; activations come from the pruned network.

    With `config.reconstruct`, each quantizer instead sees the output of quantized layers, and the layers are refitted
    to the outputs of the original, unpruned network; see quant/reconstruct.py.

    Args:
        network: a quantized network.
        images: (N, 3, H, W) in [0, 1]; H and W are multiples of the network's window size. They run as one batch, so
            memory must hold the activations of one layer for all of them.
        config: the calibration options.
        progress: whether to show a progress bar.
        prune_ratio: overrides the configured ratio, for a pruning schedule that starts lower.

    Raises:
        CompSRTError: if the network has no quantizers, a quantizer received no data, a tensor is not finite, or
            `reconstruct` is combined with the paper range or a padded transform.
    """
    found = quantizers(network)
    if not found:
        raise CompSRTError(f'{type(network).__name__} has no quantizers to calibrate: quantize it first.')
    layers = quantized_layers(network).values()
    for layer in layers:
        config.check(layer.config)
    fold_corrections_(network)
    targets = full_precision_targets(network, images) if config.reconstruct else None
    if config.precondition > 0:
        precondition_(network, images, config.precondition, config.precondition_steps)
    equalize_(network, images)
    prune_(network, prune_ratio)
    weight_quantizers = {quantizer for layer in layers for quantizer in layer.weight_quantizers()}
    masks = {q: keep for layer in pruned_layers(network).values() for q, keep in mask_blocks(layer).items()}
    seen: set[str] = set()
    recent = _Recent()
    with (TERMINAL if progress else SILENT).start('Calibrating', len(found), 'quantizer') as bar:

        def search(quantizer: Quantizer, x: Tensor) -> None:
            of_weight = quantizer in weight_quantizers
            bounds = None if of_weight else recent.bounds(quantizer, x)
            if bounds is None:
                bounds = search_bounds(x, quantizer, config, masks.get(quantizer), of_weight)
                recent.keep(quantizer, x, bounds)
            if quantizer.name in seen:  # its layer runs several times: the bounds hold for all
                lower, upper = (bound.reshape(-1) for bound in quantizer.bounds())
                bounds = torch.minimum(bounds[0], lower), torch.maximum(bounds[1], upper)
            else:
                bar.update()
            quantizer.set_bounds(*bounds)
            seen.add(quantizer.name)

        if targets is None:
            with observing(network, search):
                network(images)
        else:
            reconstruct_(network, images, targets, search, config.least_squares)
    if unseen := [name for name in found if name not in seen]:
        raise CompSRTError(
            f'Quantizer `{unseen[0]}` received no data in calibration (one of {len(unseen)}): the forward pass does '
            'not use its layer; leave it out with `exclude`.'
        )
