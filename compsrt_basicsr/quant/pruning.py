"""Pruning of quantized networks: the masks of all layers, set in place, and when to set them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.ops.pruning import keep_channels, keep_n_of_m, keep_unstructured, scheduled_ratio
from compsrt_basicsr.quant.config import QuantConfig, _from_opt
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import Quantizer


@dataclass(frozen=True)
class PruneSchedule:
    """The `train.prune_schedule:` section: pruning grows with training (Zhu and Gupta, arXiv 1710.01878).

    Attributes:
        begin: iteration from which the pruned share grows.
        end: iteration that reaches `prune_ratio`.
        frequency: iterations between two new sets of masks.
    """

    begin: int = 0
    end: int = 1000
    frequency: int = 100

    def __post_init__(self) -> None:
        for name, low in (('begin', 0), ('end', 1), ('frequency', 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise CompSRTError(f'`{name}` must be a whole number, {low} or more, got {value!r}.')
        if self.begin >= self.end:
            raise CompSRTError(f'`begin` {self.begin} must come before `end` {self.end}.')

    @classmethod
    def from_opt(cls, opt: Mapping[str, Any] | PruneSchedule | None) -> PruneSchedule:
        """Builds a schedule from the options of a YAML file; raises CompSRTError like `QuantConfig.from_opt`."""
        return _from_opt(cls, opt, 'train.prune_schedule')

    def check(self, config: QuantConfig, total_iter: float) -> None:
        """Holds the schedule against the rest of the run.

        Raises:
            CompSRTError: nothing is pruned, the pattern cannot grow, or training ends before the schedule.
        """
        if not config.prunes:
            raise CompSRTError('there is nothing to schedule: give `network_g.quant.prune_ratio`, or leave it out.')
        if config.n_of_m is not None:
            raise CompSRTError(f'the pattern {config.prune_pattern} prunes all at once: leave the schedule out.')
        if self.end > total_iter:
            raise CompSRTError(
                f'`end` {self.end} is beyond `train.total_iter` {total_iter:g}: `prune_ratio` would not be reached.'
            )

    def due(self, iteration: int) -> bool:
        """True at the iterations that get new masks."""
        on_step = (iteration - self.begin) % self.frequency == 0
        return iteration == self.end or (self.begin <= iteration < self.end and on_step)

    def ratio(self, target: float, iteration: int) -> float:
        """The share that is pruned at an iteration."""
        return scheduled_ratio(target, self.begin, self.end, self.frequency, iteration)


def pruned_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """The layers whose configuration prunes, by dotted name, in definition order."""
    layers = ((name, module) for name, module in network.named_modules() if isinstance(module, QuantizedLayer))
    return {name: layer for name, layer in layers if layer.keep_mask is not None}


def mask_blocks(layer: QuantizedLayer) -> dict[Quantizer, Tensor]:
    """Views of a pruned layer's mask by the weight quantizer of the block; a fused qkv layer has three."""
    quantizers = layer.weight_quantizers()
    return dict(zip(quantizers, layer.keep_mask.chunk(len(quantizers))))


@torch.no_grad()
def prune_(network: nn.Module, ratio: float | None = None) -> None:
    """Sets the masks of all pruned layers from the magnitudes of their transformed weights, in place.

    The unit of `prune_scope: layer` is the weight of one quantizer: q, k and v are three. Padded transforms count the
    coefficients that exist after the transform: n = 2^k for each row, none of them zero by construction.

    Args:
        network: a quantized network; one that does not prune stays as it is.
        ratio: p, in place of the configuration's; N:M knows its own.
    """
    layers = list(pruned_layers(network).values())
    masks = [mask for layer in layers for mask in mask_blocks(layer).values()]
    weights = [block for layer in layers for block in layer.dense_weight().chunk(len(layer.weight_quantizers()))]
    if not layers:
        return
    config = layers[0].config
    ratio = config.prune_ratio if ratio is None else ratio
    if config.n_of_m is not None:
        keeps = [keep_n_of_m(weight, *config.n_of_m) for weight in weights]
    else:
        choose = keep_channels if config.prune_pattern == 'channel' else keep_unstructured
        groups = [weights] if config.prune_scope == 'global' else [[weight] for weight in weights]
        keeps = [keep for group in groups for keep in choose(group, ratio)]
    for mask, keep in zip(masks, keeps):
        mask.copy_(keep)


@torch.no_grad()
def copy_masks_(source: nn.Module, target: nn.Module) -> None:
    """Gives a network the masks of another one of the same architecture, in place."""
    for mine, theirs in zip(pruned_layers(target).values(), pruned_layers(source).values()):
        mine.keep_mask.copy_(theirs.keep_mask)
