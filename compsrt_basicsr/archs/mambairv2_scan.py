"""The attentive state-space module of MambaIRv2-light (arXiv 2411.15269): tokens sorted by prompts, then one scan."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.archs.routing import choose, gumbel, permute_tokens, sorting
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.equalizer import Equalizer, quantized
from compsrt_basicsr.quant.factory import act_quantizer
from compsrt_basicsr.scan.dispatch import selective_scan

_STEP_MIN, _STEP_MAX, _STEP_FLOOR = 1e-3, 0.1, 1e-4  # of the initial steps
_PER_RANK = 16  # channels for each rank of the steps
_OPERANDS = ('u', 'delta', 'a', 'b', 'c')
_ROUTE = 3  # the router has a third of the channels


def rank_of(channels: int) -> int:
    """Returns the rank of the steps of a scan."""
    return math.ceil(channels / _PER_RANK)


class SelectiveScan(nn.Module):
    """Projections of the tokens to steps, inputs and outputs, and the scan.

    The parameters have the names and shapes of the published checkpoints, with a first dimension of one direction.

    Args:
        channels: D.
        states: S.
    """

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        self.sizes = rank_of(channels), states, states
        rank = self.sizes[0]
        bound = channels**-0.5
        self.x_proj_weight = nn.Parameter(torch.empty(1, sum(self.sizes), channels).uniform_(-bound, bound))
        bound = rank**-0.5
        self.dt_projs_weight = nn.Parameter(torch.empty(1, channels, rank).uniform_(-bound, bound))
        steps = torch.empty(1, channels).uniform_(math.log(_STEP_MIN), math.log(_STEP_MAX)).exp().clamp_min(_STEP_FLOOR)
        self.dt_projs_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))  # softplus gives the steps
        self.A_logs = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(channels, 1))
        self.Ds = nn.Parameter(torch.ones(channels))
        self.x_proj: Any = None
        self.dt_proj: Any = None
        self.operand_quantizers: nn.ModuleDict | None = None
        self.operand_equalizers: nn.ModuleDict | None = None

    def separate_layers_(self) -> None:
        """Makes linear layers `x_proj` and `dt_proj` of both weights, which can be quantized like any other.

        Checkpoints with the published names still load.
        """
        if self.x_proj is None:
            self.x_proj, self.dt_proj = _linear(self.x_proj_weight[0]), _linear(self.dt_projs_weight[0])
            del self.x_proj_weight, self.dt_projs_weight
            self.register_load_state_dict_pre_hook(_rename_weights)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Scans tokens.

        Args:
            x: (B, N, D).
            prompt: (B, N, S), added to the weights of the outputs: the attentive state-space equation.

        Returns:
            (B, N, D).
        """
        separate = self.x_proj is not None
        projected = self.x_proj(x) if separate else F.linear(x, self.x_proj_weight[0])
        low, b, c = projected.split(self.sizes, -1)
        delta = self.dt_proj(low) if separate else F.linear(low, self.dt_projs_weight[0])
        a, c = -torch.exp(self.A_logs), c + prompt
        if self.operand_quantizers is not None:
            given = zip(_OPERANDS, (x, delta, a, b, c))
            x, delta, a, b, c = (self._quantized(name, value) for name, value in given)
            a = a.clamp_max(0.0)
        return selective_scan(x, delta, a, b, c, self.Ds, self.dt_projs_bias[0])

    def _quantized(self, name: str, value: Tensor) -> Tensor:
        assert self.operand_quantizers is not None
        equalizer = None if self.operand_equalizers is None else self.operand_equalizers[name]
        return quantized(value, self.operand_quantizers[name], equalizer)

    def quantize_operands_(self, config: QuantConfig, name: str) -> None:
        """Quantizes what the scan takes: tokens, steps, decay rates, inputs and outputs; its states stay as they are.

        Each is used element by element, so a token can have its own grid, and a channel its own shift and scale.

        Args:
            config: the quantization of the network.
            name: dotted name, for messages.
        """
        self.operand_quantizers = nn.ModuleDict(
            {
                operand: act_quantizer(config, f'{name}.operand_quantizers.{operand}', vectors=True)
                for operand in _OPERANDS
            }
        )
        if config.equalize:
            channels, states = self.A_logs.shape
            sizes = dict(zip(_OPERANDS, (channels, channels, states, states, states)))
            self.operand_equalizers = nn.ModuleDict({operand: Equalizer(sizes[operand]) for operand in _OPERANDS})


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.detach().clone())
    return layer


def _rename_weights(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for old, new in (('x_proj_weight', 'x_proj.weight'), ('dt_projs_weight', 'dt_proj.weight')):
        if (weight := state.pop(prefix + old, None)) is not None:
            state[prefix + new] = weight[0]


class AttentiveScan(nn.Module):
    """Tokens choose prompts, are sorted by them, and are scanned once, so that like tokens are neighbours.

    As published, the prompts are those of the tokens in their old order.

    Args:
        dim: C of the tokens.
        channels: D of the scan.
        states: S.
        tokens: T, number of prompts.
        rank: inner rank of the prompts.
        noisy: whether the choice is drawn from its probabilities; else the largest counts.
    """

    def __init__(self, dim: int, channels: int, states: int, tokens: int, rank: int, noisy: bool) -> None:
        super().__init__()
        self.noisy = noisy
        self.prompt_quantizer: nn.Module = nn.Identity()
        self.prompt_equalizer: Equalizer | None = None
        self.selectiveScan = SelectiveScan(channels, states)
        self.out_norm = nn.LayerNorm(channels)
        self.out_proj = nn.Linear(channels, dim)
        self.in_proj = nn.Sequential(nn.Conv2d(dim, channels, 1))
        self.CPE = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels))
        self.embeddingB = nn.Embedding(tokens, rank)
        self.route = nn.Sequential(
            nn.Linear(dim, dim // _ROUTE), nn.GELU(), nn.Linear(dim // _ROUTE, tokens), nn.LogSoftmax(-1)
        )

    def quantize_operands_(self, config: QuantConfig, name: str) -> None:
        """Quantizes the prompts, see `SelectiveScan.quantize_operands_`."""
        self.prompt_quantizer = act_quantizer(config, f'{name}.prompt_quantizer', vectors=True)
        if config.equalize:
            self.prompt_equalizer = Equalizer(self.selectiveScan.A_logs.shape[1])

    def forward(self, x: Tensor, embedding: Tensor, size: tuple[int, int], generator: torch.Generator | None) -> Tensor:
        """Maps tokens (B, N, C) to the same shape.

        Args:
            x: the tokens.
            embedding: (rank, S), of the layer.
            size: height and width of the image, N together.
            generator: of the noise.
        """
        # `mm` is not among the products that `quantize_products` finds: prompts are small and have their own quantizer.
        prompts = torch.mm(self.embeddingB.weight, embedding)
        prompts = quantized(prompts, self.prompt_quantizer, self.prompt_equalizer)
        scores = self.route(x)
        index, policy = choose(scores + gumbel(scores, generator) if self.noisy else scores)
        prompt = prompts[index] if policy is None else torch.mm(policy.flatten(0, 1), prompts).view(*index.shape, -1)
        order, inverse = sorting(index)
        z = self.in_proj(x.view(len(x), *size, -1).permute(0, 3, 1, 2))
        z = z * torch.sigmoid(self.CPE(z))
        z = permute_tokens(z.permute(0, 2, 3, 1).flatten(1, 2), order, inverse)
        y = self.out_proj(self.out_norm(self.selectiveScan(z, prompt)))
        return permute_tokens(y, inverse, order)
