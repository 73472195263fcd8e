"""The tail of a network that starts from the weights of another scale: fitted, where it would be random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from basicsr.archs.swinir_arch import SwinIR
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_unshuffle, unfold

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.positive_definite import solve


@torch.no_grad()
def fit_tail(network: nn.Module, pairs: Iterable[Mapping[str, Tensor]], device: torch.device) -> None:
    """Fits the convolution before the pixel shuffle to the ground truth, in place; all else stays.

    It is linear, so the weights W with the least squared error sum |W f − y|² over all pixels have a closed form. f
    are the features below its kernel, and a 1 for the bias; y is the ground truth, unshuffled.

    Args:
        network: a SwinIR with `upsampler: pixelshuffledirect`, not wrapped for distributed training.
        pairs: `lq`, (C, P, P) in [0, 1], P a multiple of the window, and `gt`, (C, sP, sP).
        device: where the network is.

    Raises:
        CompSRTError: if it is another network.
        torch.linalg.LinAlgError: if the features are not finite.
    """
    if not isinstance(network, SwinIR) or network.upsampler != 'pixelshuffledirect':
        raise CompSRTError(
            '`train.fit_tail` fits a SwinIR with `upsampler: pixelshuffledirect`; leave it out for another network.'
        )
    convolution = network.upsample[0]
    inputs = convolution.weight[0].numel()
    moments = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64, device=device)
    products = torch.zeros(inputs + 1, len(convolution.weight), dtype=torch.float64, device=device)
    seen: list[Tensor] = []
    hook = convolution.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    was_training = network.training
    network.eval()
    try:
        for pair in pairs:
            lq, gt = (pair[key][None].to(device) for key in ('lq', 'gt'))
            network(lq)
            features = unfold(seen.pop(), convolution.kernel_size, padding=convolution.padding)[0].double()
            features = pad(features, (0, 0, 0, 1), value=1.0)
            target = pixel_unshuffle((gt - network.mean.to(device)) * network.img_range, network.upscale)
            moments += features @ features.T
            products += features @ target[0].flatten(1).double().T
    finally:
        hook.remove()
        network.train(was_training)
    solution = solve(moments, products).to(convolution.weight.dtype)
    convolution.weight.copy_(solution[:-1].T.reshape(convolution.weight.shape))
    convolution.bias.copy_(solution[-1])
