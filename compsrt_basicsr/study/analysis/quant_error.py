"""The error of b-bit quantization, measured on a histogram."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.quant.bounds import bin_values, dobi
from compsrt_basicsr.quant.functional.affine import dequantize, quantize
from compsrt_basicsr.quant.quantizer import Quantizer

BITS = (2, 3, 4, 8)
_SEARCH = CalibrationConfig()


def quantization_error(
    counts: Tensor, lowest: float, highest: float, mean_square: float
) -> dict[str, dict[str, float]]:
    """Mean squared error and SQNR at each of `BITS`, with the bounds that DOBI finds in calibration.

    Each value counts as the centre of its bin of width w, and w^2/12 is added, the variance of an even spread in the
    bin. A quantization step holds many bins, so this is the error of the values themselves to about 1%.

    Args:
        counts: histogram of equal bins over the exact range.
        lowest, highest: ends of that range.
        mean_square: mean of x^2, the power of the signal.

    Returns:
        `mse` and `sqnr` by bit width; SQNR is 10 log10(mean_square / mse) in dB.
    """
    values, weights = bin_values(counts.float(), torch.tensor(lowest), torch.tensor(highest))
    spread = ((highest - lowest) / len(counts)) ** 2 / 12
    found = {}
    for bits in BITS:
        lower, upper = dobi(values, weights, Quantizer(bits), _SEARCH)
        scale = (upper - lower) / (2**bits - 1)
        error = dequantize(quantize(values, scale, lower, 2**bits), scale, lower) - values
        mse = float(torch.dot(error.double() ** 2, weights.double()) / weights.sum(dtype=torch.float64)) + spread
        found[str(bits)] = {'mse': mse, 'sqnr': 10 * math.log10(mean_square / mse)}
    return found
