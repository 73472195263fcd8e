"""Finding the place where a training went wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers


def require_finite(
    network: nn.Module, lq: Tensor, loss: Tensor, trained: Sequence[nn.Parameter], current_iter: int
) -> None:
    """Stops a training whose loss or gradients are not finite.

    Raises:
        CompSRTError: names the quantizer where the first such value appears.
    """
    gradients = [p.grad for p in trained if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) if gradients else loss.new_zeros(())
    if bool(torch.isfinite(loss.detach()) & torch.isfinite(norm)):
        return
    place = _broken_output(network, lq) or _broken_gradient(network) or 'the loss, though every quantizer is finite'
    raise CompSRTError(
        f'Training stopped at iteration {current_iter}: NaN or infinity in {place}. Saved checkpoints are whole; '
        'lower `train.optim_g.lr` or use `code_range: strict`, and resume.'
    )


def require_finite_parameters(network: nn.Module, current_iter: int) -> None:
    """Refuses to save a network with a broken parameter.

    Raises:
        CompSRTError: names the first parameter that is NaN or infinite.
    """
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise CompSRTError(
                f'Nothing was saved at iteration {current_iter}: `{name}` is NaN or infinite. Earlier checkpoints are '
                'whole; lower `train.optim_g.lr` and resume.'
            )


@torch.no_grad()
def _broken_output(network: nn.Module, lq: Tensor) -> str | None:
    """Name of the first quantizer with a non-finite parameter, input or output in a forward pass."""
    names = {module: name for name, module in quantizers(network).items()}
    found: list[str] = []

    def look(module: Quantizer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tensors = (*module.parameters(), inputs[0], output)
        if not found and not all(bool(torch.isfinite(t).all()) for t in tensors):
            found.append(f'quantizer `{names[module]}`')

    handles = [module.register_forward_hook(look) for module in names]
    try:
        network(lq)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _broken_gradient(network: nn.Module) -> str | None:
    for name, quantizer in reversed(quantizers(network).items()):  # backward runs from the end
        if any(p.grad is not None and not bool(torch.isfinite(p.grad).all()) for p in quantizer.parameters()):
            return f'the gradient of quantizer `{name}`'
    return None
