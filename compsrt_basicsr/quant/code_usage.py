"""How many codes a quantizer really uses, counted on data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.quantizer import Quantizer, quantizers

# Ends the sentence of those who must refuse it.
NO_COUNT = 'does not go with `levels: all`, which looks at every code by fake quantization: give `first` or `skip`.'


@dataclass
class LevelCount:
    """The codes one quantizer produced.

    Attributes:
        bits: b, the bit width it claims.
        codes: the different codes seen, the largest number over its grids where it has one per channel.
    """

    bits: int
    codes: list[set[int]] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Different codes used: at most 2^b in strict range."""
        return max((len(c) for c in self.codes), default=0)

    @property
    def span(self) -> int:
        """Largest minus smallest code plus one: what a fixed-width code would have to hold."""
        return max((max(c) - min(c) + 1 for c in self.codes if c), default=0)


@contextmanager
def counting_levels(network: nn.Module) -> Iterator[dict[str, LevelCount]]:
    """Counts the codes of every quantizer during the forward passes inside the context.

    Yields:
        A count for each quantizer's name, filled as passes run.
    """
    counts: dict[str, LevelCount] = {}
    handles = []

    def count(quantizer: Quantizer, inputs: tuple[Tensor, ...]) -> None:
        record = counts[names[quantizer]]
        for row, seen in zip(quantizer.codes(inputs[0]).reshape(len(record.codes), -1), record.codes):
            seen.update(_distinct(row))

    found = quantizers(network)
    names = {quantizer: name for name, quantizer in found.items()}
    for name, quantizer in found.items():
        counts[name] = LevelCount(quantizer.bits, [set() for _ in range(max(quantizer.lower.numel(), 1))])
        handles.append(quantizer.register_forward_pre_hook(count))
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _distinct(codes: Tensor) -> list[int]:
    """The different values of an int32 tensor; counting beats sorting where the span is small, as it is for codes."""
    smallest, largest = (int(end) for end in torch.aminmax(codes))
    if largest - smallest > 2**16:
        return torch.unique(codes).tolist()
    return (torch.bincount(codes - smallest).nonzero().flatten() + smallest).tolist()


def summarize(counts: dict[str, LevelCount]) -> dict[str, float]:
    """`levels_max`: the largest number of codes any quantizer used; `levels_over`: how many used more than 2^b."""
    return {
        'levels_max': float(max((count.used for count in counts.values()), default=0)),
        'levels_over': float(sum(count.used > 2**count.bits for count in counts.values())),
    }
