"""Stopping a training at the first NaN or infinity, and naming where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.quantizer import quantizers


def check_is_due(logger: Mapping[str, Any], device: torch.device, current_iter: int) -> bool:
    """Tells whether to check this iteration: each on the CPU; on a GPU, where a check waits, when it logs or saves.

    Args:
        logger: the section `logger`.
        device: where the training runs.
        current_iter: the current iteration.
    """
    frequencies = (logger['print_freq'], logger['save_checkpoint_freq'])
    return device.type == 'cpu' or any(current_iter % int(frequency) == 0 for frequency in frequencies)


def require_finite(
    network: nn.Module, lq: Tensor, values: Tensor, trained: Sequence[nn.Parameter], current_iter: int
) -> None:
    """Stops a training whose loss, or output, or gradients are not finite.

    Args:
        network: the network, not wrapped for distributed training.
        lq: the batch, (B, C, H, W).
        values: the loss or the output for the batch.
        trained: the parameters with gradients.
        current_iter: the current iteration.

    Raises:
        CompSRTError: if a value is NaN or infinite. The message names the quantizer, or in a network without quantizers
            the layer, where it first appears.
    """
    gradients = [p.grad for p in trained if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) if gradients else values.new_zeros(())
    if bool(torch.isfinite(values.detach()).all() & torch.isfinite(norm)):
        return
    kind, modules = _checked_modules(network)
    if name := _broken_output(network, modules, lq):
        where = f'{kind} `{name}`'
    elif name := _broken_gradient(modules):
        where = f'the gradient of {kind} `{name}`'
    else:
        where = f'the loss, though every {kind} is finite'
    strict = ' or use `code_range: strict`' if kind == 'quantizer' else ''
    raise CompSRTError(
        f'Training stopped at iteration {current_iter}: NaN or infinity in {where}. Saved checkpoints are intact; '
        f'lower `train.optim_g.lr`{strict}, and resume.'
    )


def require_finite_parameters(network: nn.Module, current_iter: int) -> None:
    """Refuses to save a network with a parameter that is not finite.

    Raises:
        CompSRTError: if a parameter is NaN or infinite. The message names the first.
    """
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise CompSRTError(
                f'Nothing was saved at iteration {current_iter}: `{name}` is NaN or infinite. Earlier checkpoints are '
                'intact; lower `train.optim_g.lr` and resume.'
            )


def _checked_modules(network: nn.Module) -> tuple[str, dict[str, nn.Module]]:
    """Returns the quantizers of a network by name, or its layers where it has none, and which of both they are."""
    if found := quantizers(network):
        return 'quantizer', dict(found)
    modules = {name: module for name, module in network.named_modules() if name}
    return 'layer', {
        name: module
        for name, module in modules.items()
        if next(module.children(), None) is None or next(module.parameters(recurse=False), None) is not None
    }


@torch.no_grad()
def _broken_output(network: nn.Module, modules: Mapping[str, nn.Module], lq: Tensor) -> str | None:
    """Names the first module with a parameter, input or output that is not finite in a forward pass."""
    names = {module: name for name, module in modules.items()}
    found: list[str] = []

    def check(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        values = (*module.parameters(recurse=False), *inputs, output)
        if not found and not all(bool(torch.isfinite(v).all()) for v in values if isinstance(v, Tensor)):
            found.append(names[module])

    handles = [module.register_forward_hook(check) for module in names]
    try:
        network(lq)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _broken_gradient(modules: Mapping[str, nn.Module]) -> str | None:
    """Names the last module with a gradient that is not finite, since backward runs from the end."""
    for name, module in reversed(list(modules.items())):
        gradients = [p.grad for p in module.parameters(recurse=False) if p.grad is not None]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            return name
    return None
