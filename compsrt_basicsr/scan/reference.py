"""The selective scan step by step, as the equations say."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scan_reference(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Computes the selective scan; torch differentiates it.

    The arguments are those of `scan.dispatch.selective_scan`.

    Returns:
        (B, L, D), of the dtype of the arguments.
    """
    dt = F.softplus(delta + bias)
    state = u.new_zeros(u.shape[0], *a.shape)
    results = []
    for step in range(u.shape[1]):
        decay = torch.exp(dt[:, step, :, None] * a)
        state = decay * state + (dt[:, step] * u[:, step])[:, :, None] * b[:, step, None]
        results.append((state * c[:, step, None]).sum(-1))
    return torch.stack(results, 1) + skip * u
