"""Calibration: the bounds of every quantizer from one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compsrt_basicsr.config.quantization import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.bounds import search_bounds
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.precondition import precondition_
from compsrt_basicsr.quant.pruning import mask_blocks, prune_, pruned_layers
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.quant.reconstruct import full_precision_targets, reconstruct_
from compsrt_basicsr.utils.progress import SILENT, TERMINAL


@torch.no_grad()
def calibrate(
    network: nn.Module,
    pictures: Tensor,
    config: CalibrationConfig,
    progress: bool = True,
    prune_ratio: float | None = None,
) -> None:
    """Preconditions and prunes a network where asked to and sets the bounds of all quantizers, in place.

    Bounds of pruned weights are searched on the kept coefficients; activations come from the pruned network. One
    full-precision forward pass; each quantizer searches its bounds on the tensor it sees, as the published
    calibration does. The pass holds the activations of all pictures of one layer at a time.

    With `reconstruct`, see quant/reconstruct.py: each quantizer sees what comes from quantized layers, and the layers
    are refitted to the outputs of the network as it came, unpruned.

    Args:
        network: a quantized network.
        pictures: (N, 3, H, W) in [0, 1], H and W multiples of the window size where the network asks for it.
        config: how to search.
        progress: whether to show a progress bar.
        prune_ratio: pruned share in place of the configuration's, for a schedule that starts lower.

    Raises:
        CompSRTError: the network has no quantizers, one of them saw no data, a tensor is not finite, or
            `reconstruct` does not go with the network's range or transform.
    """
    found = quantizers(network)
    if not found:
        raise CompSRTError(f'{type(network).__name__} has no quantizers to calibrate: give it a `quant:` section.')
    layers = quantized_layers(network).values()
    for layer in layers:
        config.check(layer.config)
    targets = full_precision_targets(network, pictures) if config.reconstruct else None
    if config.precondition > 0:
        precondition_(network, pictures, config.precondition, config.precondition_steps)
    prune_(network, prune_ratio)
    of_weights = {quantizer for layer in layers for quantizer in layer.weight_quantizers()}
    masks = {q: keep for layer in pruned_layers(network).values() for q, keep in mask_blocks(layer).items()}
    seen: set[str] = set()
    with (TERMINAL if progress else SILENT).start('Calibrating', len(found), 'quantizer') as bar:

        def search(quantizer: Quantizer, x: Tensor) -> None:
            bounds = search_bounds(x, quantizer, config, masks.get(quantizer), quantizer in of_weights)
            quantizer.set_bounds(*bounds)
            seen.add(quantizer.name)
            bar.update()

        if targets is None:
            with observing(network, search):
                network(pictures)
        else:
            reconstruct_(network, pictures, targets, search)
    if unseen := [name for name in found if name not in seen]:
        raise CompSRTError(f'{len(unseen)} quantizers saw no data in calibration, the first is `{unseen[0]}`.')
