"""What pruning came to: zeros counted in the weights that the forward pass uses, and bits for each parameter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.pruning import mask_blocks, pruned_layers


@dataclass(frozen=True)
class TensorSparsity:
    """One pruned weight tensor, counted on its fake-quantized values.

    Attributes:
        name: its weight quantizer.
        size: number of transformed coefficients.
        bits: b.
        width: bits of a fixed-width code for the kept coefficients: b, or more where the paper range left it.
        asked: p of the options.
        pruned: coefficients that the mask takes away and that are exactly 0.0 in the forward pass.
        zeros: all coefficients that are exactly 0.0: those, and kept ones that are rounded to 0.
        entropy: bits for each coefficient that an ideal coder with one table for this tensor needs.
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
    """Counts the zeros of every pruned weight tensor of a calibrated network, in definition order."""
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
                    # a grid without a zero needs one more symbol for the pruned
                    _entropy(code if quantizer.zero_on_grid else code.masked_fill(~keep, code.min() - 1)),
                )
            )
    return found


def summarize_sparsity(tensors: list[TensorSparsity]) -> dict[str, float]:
    """Totals over all pruned tensors.

    Returns:
        `sparsity`: share of coefficients that are pruned, measured; `zeros`: share that are 0.0 for any reason;
        `bits_paper`: b (1 - p) + 1 with the p of the options, the account of CompSRT (arXiv 2601.21069), which adds
        a mask of one bit each; `bits_mask`: the same with the measured share and the measured width of the codes;
        `bits_entropy`: entropy of the codes.
        All bits are for each coefficient. Empty for no tensors.
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
    """Bits that number the codes from the smallest to the largest, at least b."""
    span = int(codes.max()) - int(codes.min()) if codes.numel() else 0
    return max(bits, span.bit_length())


def _entropy(codes: Tensor) -> float:
    """Empirical entropy of integers in bits."""
    share = torch.unique(codes, return_counts=True)[1].double() / codes.numel()
    return float(-(share * share.log2()).sum())
