"""The selective scan in torch operations: a loop over the steps of a chunk, for all chunks at once.

Three loops over about the square root of L steps replace one over L. The first finds what each chunk adds to its state;
the states at the starts of the chunks follow, one after the other; from there the second computes the results. The
gradient is the same recurrence backwards.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LONGEST = 128  # steps of a chunk


def scan_chunked(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Computes the selective scan on any device; see `scan_reference`. Memory: as for L / chunk steps at a time."""
    result: Tensor = _ChunkedScan.apply(u, delta, a, b, c, skip, bias)
    return result


class _ChunkedScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor
    ) -> Tensor:
        dt = F.softplus(delta + bias)
        inputs, steps, ins, outs = (_cut(x) for x in (dt * u, dt, b, c))
        state = inputs.new_zeros(*inputs.shape[1:], a.shape[1])
        total = torch.zeros_like(steps[0])
        for step, x, weight in zip(steps, inputs, ins):
            state = torch.exp(step[..., None] * a) * state + x[..., None] * weight[..., None, :]
            total = total + step
        starts = _carry(torch.exp(total[..., None] * a), state)
        state, results = starts, []
        for step, x, weight, out in zip(steps, inputs, ins, outs):
            state = torch.exp(step[..., None] * a) * state + x[..., None] * weight[..., None, :]
            results.append((state * out[..., None, :]).sum(-1))
        ctx.save_for_backward(u, delta, a, b, c, skip, bias, starts)
        return _joined(results, u.shape[1]) + skip * u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        u, delta, a, b, c, skip, bias, starts = ctx.saved_tensors
        raw = delta + bias
        dt = F.softplus(raw)
        inputs, steps, ins, outs, grads = (_cut(x) for x in (dt * u, dt, b, c, dy))
        decays, states = [], [starts]
        for step, x, weight in zip(steps, inputs, ins):
            decays.append(torch.exp(step[..., None] * a))
            states.append(decays[-1] * states[-1] + x[..., None] * weight[..., None, :])
        end = torch.zeros_like(starts)
        for decay, out, grad in zip(reversed(decays), reversed(outs), reversed(grads)):
            end = decay * (end + grad[..., None] * out[..., None, :])
        total = torch.exp(steps.sum(0)[..., None] * a)
        carried = _carry(total.flip(1), end.flip(1)).flip(1)  # from the chunk after to the end of each
        of_inputs, of_steps, of_ins, of_outs = [], [], [], []
        of_a = torch.zeros_like(a)
        for index in range(len(steps) - 1, -1, -1):
            of_state = carried + grads[index][..., None] * outs[index][..., None, :]
            carried = decays[index] * of_state
            exponent = carried * states[index]
            of_outs.append((grads[index][..., None] * states[index + 1]).sum(-2))
            of_ins.append((of_state * inputs[index][..., None]).sum(-2))
            of_inputs.append((of_state * ins[index][..., None, :]).sum(-1))
            of_steps.append((exponent * a).sum(-1))
            of_a += (exponent * steps[index][..., None]).sum((0, 1))
        length = u.shape[1]
        of_input, of_dt, of_b, of_c = (
            _joined(list(reversed(x)), length) for x in (of_inputs, of_steps, of_ins, of_outs)
        )
        of_delta = (of_dt + of_input * u) * torch.sigmoid(raw)
        of_u = of_input * dt + skip * dy
        return of_u, of_delta, of_a, of_b, of_c, (dy * u).sum((0, 1)), of_delta.sum((0, 1))


def _cut(x: Tensor) -> Tensor:
    """Cuts (B, L, N) into chunks: (steps of a chunk, B, chunks, N), zero beyond L, where dt = 0 changes no state."""
    length = x.shape[1]
    size = min(max(math.isqrt(length), 1), _LONGEST)
    return F.pad(x, (0, 0, 0, -length % size)).view(len(x), -1, size, x.shape[2]).permute(2, 0, 1, 3)


def _joined(steps: list[Tensor], length: int) -> Tensor:
    """Joins what `_cut` has cut, a list over the steps: (B, L, N)."""
    return torch.stack(steps, 2).flatten(1, 2)[:, :length]


def _carry(decays: Tensor, added: Tensor) -> Tensor:
    """Returns the states before each chunk from what each multiplies and adds: (B, chunks, D, S) of all three."""
    state, states = torch.zeros_like(added[:, 0]), []
    for index in range(added.shape[1]):
        states.append(state)
        state = decays[:, index] * state + added[:, index]
    return torch.stack(states, 1)
