"""Low-rank corrections of a weight, trained in its place and merged into it (the rectifiers of SPR2Q, ICLR 2026)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.config.quant import QuantConfig


class Correction(nn.Module):
    """A correction dW = sum_i softmax(gate)_i B_i A_i of a weight (O, d), for each of its blocks of rows.

    It is added before the weight is transformed and quantized, so that a network whose weights have taken it up
    computes exactly the same. It starts at 0: B = 0, all gates equal, and A uniform in +-sqrt(6 / r), whatever the
    width, as the released code draws it (its initialiser takes r for the number of inputs).

    Attributes:
        down: A, (P, N, r, d).
        up: B, (P, N, O / P, r).
        gate: (P, N).

    Args:
        weight: (O, d), whose device and precision it gets.
        blocks: P, the number of blocks.
        pairs: N.
        rank: r.
    """

    def __init__(self, weight: Tensor, blocks: int, pairs: int, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        bound = math.sqrt(6 / rank)
        new = weight.detach().new_empty
        self.down = nn.Parameter(new(blocks, pairs, rank, columns).uniform_(-bound, bound))
        self.up = nn.Parameter(new(blocks, pairs, rows // blocks, rank).zero_())
        self.gate = nn.Parameter(new(blocks, pairs).zero_())

    def forward(self) -> Tensor:
        """Computes dW, (O, d), in float32 even under autocast."""
        with torch.autocast(self.up.device.type, enabled=False):
            shares = self.gate.softmax(-1)[..., None, None]
            up = (shares * self.up).transpose(1, 2).flatten(2)  # all pairs of a block in one product
            return (up @ self.down.flatten(1, 2)).flatten(0, 1)

    @torch.no_grad()
    def reset_(self) -> None:
        """Sets dW to 0, in place; A stays."""
        self.up.zero_()
        self.gate.zero_()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accepts checkpoints without corrections, in full precision or merged: dW is then 0."""
        if any(key.startswith(prefix) for key in state):
            super()._load_from_state_dict(state, prefix, *args)
        else:
            self.reset_()

    def extra_repr(self) -> str:
        blocks, pairs, rank, _ = self.down.shape
        return f'blocks={blocks}, pairs={pairs}, rank={rank}'


def correction_of(config: QuantConfig, weight: Tensor, blocks: int = 1) -> Correction | None:
    """Builds the correction of a linear's weight (O, d), or returns None where the configuration asks for none."""
    return Correction(weight, blocks, config.corrections, config.correction_rank) if config.corrections else None


def corrections(network: nn.Module) -> dict[str, Correction]:
    """Returns all corrections of a network by dotted name, in definition order."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Correction)}
