"""Networks that draw random numbers in each forward pass: seeded noise, the same for networks that are compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class NoisyNetwork(nn.Module):
    """Base of networks whose forward pass draws noise.

    In eval mode, each pass draws the same numbers, from `noise_seed`. In training mode, torch's generator of the device
    draws, unless `same_noise` says otherwise.

    Attributes:
        noise_seed: seed in eval mode.
    """

    def __init__(self, noise_seed: int) -> None:
        super().__init__()
        self.noise_seed = noise_seed
        self._given_seed: int | None = None

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Returns the generator of one forward pass, or None for torch's own."""
        if self._given_seed is None and self.training:
            return None
        seed = self.noise_seed if self._given_seed is None else self._given_seed
        return torch.Generator(device).manual_seed(seed)


@contextmanager
def same_noise(seed: int, *networks: nn.Module) -> Iterator[None]:
    """Lets networks draw the same noise in each forward pass inside this context, in training mode too.

    Without it, a student is compared with a teacher that has drawn otherwise, and learns their noise.

    Args:
        seed: another one for each training step.
        networks: those that draw no noise stay as they are.
    """
    noisy = [module for network in networks for module in network.modules() if isinstance(module, NoisyNetwork)]
    for module in noisy:
        module._given_seed = seed
    try:
        yield
    finally:
        for module in noisy:
            module._given_seed = None


def gumbel(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws standard Gumbel noise of the shape of a tensor."""
    uniform = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return -(-uniform.clamp_min(torch.finfo(like.dtype).tiny).log()).log()


def choose(log_probabilities: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns the index of the largest of (..., T), and its one-hot form whose gradient is that of the softmax.

    The one-hot form (..., T) is None where no gradient is recorded.
    """
    index = log_probabilities.argmax(-1)
    if not torch.is_grad_enabled():
        return index, None
    soft = log_probabilities.softmax(-1)
    hard = torch.zeros_like(soft).scatter_(-1, index[..., None], 1.0)
    return index, hard - soft.detach() + soft


def sorting(index: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the permutation that sorts rows of (B, N), for rows laid end to end, and its inverse, (B N,) each.

    The sort is stable: tokens of one group keep their order on every device.
    """
    batch, count = index.shape
    rows = torch.arange(batch, device=index.device)[:, None] * count
    order = (torch.sort(index, dim=-1, stable=True).indices + rows).flatten()
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=index.device)
    return order, inverse


class _Permute(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)  # type: ignore[attr-defined]
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad.index_select(0, inverse), None, None


def permute_tokens(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Permutes the tokens of (B, N, C) with what `sorting` returned; the gradient is permuted back."""
    result: Tensor = _Permute.apply(x.reshape(-1, x.shape[-1]), order, inverse)
    return result.view(x.shape)
