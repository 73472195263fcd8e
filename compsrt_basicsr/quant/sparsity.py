"""Sparsity report of a pruned network: measured zeros and bits per weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.pruning import mask_blocks, pruned_layers


@dataclass(frozen=True)
class TensorSparsity:
    """Counts for one pruned weight tensor, taken from its fake-quantized values.

    Attributes:
        name: dotted name of its weight quantizer.
        size: number of transformed coefficients.
        bits: b.
        width: bits of a fixed-width code for the kept coefficients: b, or more if the paper range has exceeded it.
        asked: p, the configured ratio.
        pruned: coefficients that the mask removes and that are exactly 0.0 in the forward pass.
        zeros: all coefficients that are exactly 0.0, including kept ones that round to 0.
        entropy: entropy of the codes in bits per coefficient: the size with an ideal coder for this tensor.
    """

    name: str
    size: int
    bits: int
    width: int
    asked: float
    pruned: int
    zeros: int
    entropy: float


@torch.no_grad()
def measure_sparsity(network: nn.Module) -> list[TensorSparsity]:
    """Counts the zeros of each pruned weight tensor of a calibrated network, in definition order."""
    found = []
    for name, layer in pruned_layers(network).items():
        blocks = mask_blocks(layer)
        names = {module: part for part, module in layer.named_modules()}
        codes = layer.weight_codes().chunk(len(blocks))
        for (quantizer, keep), values, code in zip(blocks.items(), layer.quantized_weights(), codes):
            zero = values == 0
            found.append(
                TensorSparsity(
                    f'{name}.{names[quantizer]}',
                    keep.numel(),
                    quantizer.bits,
                    _width(code[keep], quantizer.bits),
                    layer.config.prune_ratio,
                    int((zero & ~keep).sum()),
                    int(zero.sum()),
                    # a grid without a zero needs one extra symbol for pruned coefficients
                    _entropy(code if quantizer.zero_on_grid else code.masked_fill(~keep, code.min() - 1)),
                )
            )
    return found


def summarize_sparsity(tensors: list[TensorSparsity]) -> dict[str, float]:
    """Averages over all pruned tensors, weighted by size.

    Returns:
        An empty dictionary without tensors, else, in bits per coefficient:
        `sparsity`: measured ratio of pruned coefficients;
        `zeros`: ratio of coefficients that are exactly 0.0 for any reason;
        `bits_paper`: b (1 - p) + 1 with the configured p, as CompSRT counts (arXiv 2601.21069): the kept codes and a
            mask of one bit;
        `bits_mask`: the same with the measured ratio and code width;
        `bits_entropy`: entropy of the codes.
    """
    if not tensors:
        return {}
    size = sum(t.size for t in tensors)

    def mean(total: float) -> float:
        return total / size

    return {
        'sparsity': mean(sum(t.pruned for t in tensors)),
        'zeros': mean(sum(t.zeros for t in tensors)),
        'bits_paper': mean(sum(t.size * (t.bits * (1 - t.asked) + 1) for t in tensors)),
        'bits_mask': mean(sum(t.width * (t.size - t.pruned) + t.size for t in tensors)),
        'bits_entropy': mean(sum(t.size * t.entropy for t in tensors)),
    }


def _width(codes: Tensor, bits: int) -> int:
    """Returns the bits needed to number the codes from smallest to largest, at least b."""
    span = int(codes.max()) - int(codes.min()) if codes.numel() else 0
    return max(bits, span.bit_length())


def _entropy(codes: Tensor) -> float:
    """Computes the empirical entropy of integers in bits."""
    probability = torch.unique(codes, return_counts=True)[1].double() / codes.numel()
    return float(-(probability * probability.log2()).sum())
