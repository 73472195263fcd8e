"""From packed networks to float weights that have the same codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.build_limit import Stored
from compsrt_basicsr.archs.rebuild import rebuild
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record


@torch.no_grad()
def unpacked_state(network: nn.Module) -> dict[str, Tensor]:
    """Returns the state dict of a network loaded from a packed file, for BasicSR and for training.

    Weights are what their codes stand for, transformed back. A network that has loaded this state is checked: it must
    have the same codes and grids.

    Args:
        network: from `load_packed`.

    Raises:
        CompSRTError: if a transform is padded, from which there is no way back, or codes do not come out the same.
    """
    layers = quantized_layers(network)
    padded = [name for name, layer in layers.items() if layer.transform.projection is not None]
    if padded:
        raise CompSRTError(
            f'`{padded[0]}` has a padded transform, whose codes stand for no float weight of its size: the packed file '
            'can be loaded and run, but not be unpacked.'
        )
    state = network.state_dict()
    again = rebuild(decode_record(network.get_buffer('quant_record.json')), Stored.of(state))
    again.load_state_dict(state)
    for name, layer in quantized_layers(again).items():
        if not torch.equal(layer.weight_codes(), layers[name].weight_codes()):
            raise CompSRTError(f'The float weight of `{name}` does not give its codes again: use the packed file.')
    mine = quantizers(network)
    for name, quantizer in quantizers(again).items():
        if not all(torch.equal(a, b) for a, b in zip(quantizer.grid(), mine[name].grid())):
            raise CompSRTError(f'The grid of `{name}` did not come out the same: use the packed file.')
    return again.state_dict()
