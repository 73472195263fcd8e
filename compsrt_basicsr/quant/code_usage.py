"""Counting of the codes that quantizers actually produce on data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.quantizer import Quantizer, quantizers


@dataclass
class CodeUsage:
    """The codes that one quantizer has produced.

    Attributes:
        bits: b, the configured bit width.
        codes: the distinct codes of each grid: one set, or one per channel.
    """

    bits: int
    codes: list[set[int]] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Number of distinct codes, the maximum over the grids: at most 2^b in strict range."""
        return max((len(c) for c in self.codes), default=0)

    @property
    def span(self) -> int:
        """Largest minus smallest code plus one, the maximum over the grids: the range a fixed-width code needs."""
        return max((max(c) - min(c) + 1 for c in self.codes if c), default=0)


@contextmanager
def counting_codes(network: nn.Module) -> Iterator[dict[str, CodeUsage]]:
    """Counts the codes of all quantizers during the forward passes inside the context.

    Codes in strict range are marked on the device and read once, at the end of the context; those in paper range, which
    know no bound, in each pass.

    Yields:
        The code usage by quantizer name, complete after the context.
    """
    counts: dict[str, CodeUsage] = {}
    marks: dict[str, Tensor] = {}  # (grids, 2^b) bool
    handles = []

    def count(quantizer: Quantizer, inputs: tuple[Tensor, ...]) -> None:
        name = names[quantizer]
        usage = counts[name]
        codes = quantizer.codes(inputs[0]).reshape(len(usage.codes), -1)
        if quantizer.code_range == 'strict':
            if name not in marks:
                marks[name] = torch.zeros(len(codes), quantizer.levels, dtype=torch.bool, device=codes.device)
            marks[name].scatter_(1, codes.long().clamp_(0, quantizer.levels - 1), True)  # NaN has no code
            return
        for row, seen in zip(codes, usage.codes):
            seen.update(_distinct(row))

    found = quantizers(network)
    names = {quantizer: name for name, quantizer in found.items()}
    for name, quantizer in found.items():
        counts[name] = CodeUsage(quantizer.bits, [set() for _ in range(max(quantizer.lower.numel(), 1))])
        handles.append(quantizer.register_forward_pre_hook(count))
    try:
        yield counts
        _read(marks, counts)
    finally:
        for handle in handles:
            handle.remove()


def _read(marks: dict[str, Tensor], counts: dict[str, CodeUsage]) -> None:
    """Adds the marked codes to the counts."""
    if not marks:
        return
    flat = torch.cat([table.flatten() for table in marks.values()]).tolist()
    position = 0
    for name, table in marks.items():
        for seen in counts[name].codes:
            seen.update(code for code in range(table.shape[1]) if flat[position + code])
            position += table.shape[1]


def _distinct(codes: Tensor) -> list[int]:
    """Lists the distinct values of an int32 tensor; counting is faster than sorting for a small span, as codes have."""
    smallest, largest = (int(end) for end in torch.aminmax(codes))
    if largest - smallest > 2**16:
        return torch.unique(codes).tolist()
    return (torch.bincount(codes - smallest).nonzero().flatten() + smallest).tolist()


def summarize(counts: dict[str, CodeUsage]) -> dict[str, float]:
    """Summarizes the code usage of a network.

    Returns:
        `levels_max`: the largest number of codes that a quantizer used; `levels_over`: the number of quantizers that
        used more than 2^b codes.
    """
    return {
        'levels_max': float(max((count.used for count in counts.values()), default=0)),
        'levels_over': float(sum(count.used > 2**count.bits for count in counts.values())),
    }
