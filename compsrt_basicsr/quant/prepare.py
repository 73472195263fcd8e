"""Networks prepared for quantization without changing what they compute: plain weights, attention, batch norms.

The result depends on the architecture alone, so that a file builds the same network again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.multihead import PlainAttention, can_be_plain
from compsrt_basicsr.quant.names import replace_module


def make_weights_plain_(network: nn.Module) -> None:
    """Replaces weights that are computed from others by their values, in place.

    These are parametrized weights, such as weight and spectral norm, and the branches of training that SPAN
    (arXiv 2311.12770) merges into one convolution for inference. Modules that compute with weights of their own make
    layers of them, if they have a method `separate_layers_`.
    """
    training = network.training
    network.eval()  # spectral norm changes its state at each call in training mode
    for name, module in list(network.named_modules()):
        if hasattr(module, 'update_params') and isinstance(getattr(module, 'eval_conv', None), nn.Conv2d):
            replace_module(network, name, _merged(module))
        if hasattr(module, 'separate_layers_'):
            module.separate_layers_()
        if parametrize.is_parametrized(module):
            for weight in list(module.parametrizations):
                parametrize.remove_parametrizations(module, weight, leave_parametrized=True)
                module.register_parameter(weight, nn.Parameter(getattr(module, weight).detach()))
        for key, hook in list(module._forward_pre_hooks.items()):  # the older forms, which are hooks
            if type(hook).__module__ in ('torch.nn.utils.weight_norm', 'torch.nn.utils.spectral_norm'):
                hook.remove(module)
                del module._forward_pre_hooks[key]
    network.train(training)


def make_attention_plain_(network: nn.Module, kept: Sequence[str] = ()) -> None:
    """Replaces each `nn.MultiheadAttention` by linears and products, in place.

    Args:
        network: the network.
        kept: names of layers; an attention whose `out_proj` is one of them stays.
    """
    for name, module in list(network.named_modules()):
        if can_be_plain(module) and f'{name}.out_proj' not in kept:
            replace_module(network, name, PlainAttention(cast(nn.MultiheadAttention, module)).train(module.training))


def _merged(block: Any) -> nn.Module:
    """Returns the convolution for inference of SPAN's block."""
    block.update_params()
    conv = block.eval_conv.requires_grad_(True)
    return nn.Sequential(conv, nn.LeakyReLU(0.05)) if block.has_relu else conv


@torch.no_grad()
def fold_batch_norms_(network: nn.Module, folds: Sequence[tuple[str, str]]) -> None:
    """Folds batch norms into the convolutions before them, in place; the convolutions get a bias.

    Args:
        network: a network whose batch norms have their statistics.
        folds: dotted names of convolution and batch norm, as `Structure.folds`.

    Raises:
        CompSRTError: if a name is no such layer of this network.
    """
    modules: dict[str, Any] = dict(network.named_modules())
    for conv_name, norm_name in folds:
        conv, norm = modules.get(conv_name), modules.get(norm_name)
        if type(conv) is not nn.Conv2d or not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
            raise CompSRTError(f'`{norm_name}` cannot be folded into `{conv_name}`: the network has other layers.')
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, cast(Tensor, norm.running_mean), norm.running_var, norm.eps, norm.weight, norm.bias
        )
        replace_module(network, norm_name, nn.Identity())
