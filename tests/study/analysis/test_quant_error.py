"""Quantization error on a histogram, against the values themselves and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.quant.bounds import search_bounds
from compsrt_basicsr.quant.functional.affine import dequantize, quantize
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.study.analysis.quant_error import BITS, quantization_error
from compsrt_basicsr.study.analysis.stream import BINS


def error_of(values: torch.Tensor):
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, BINS, low, high)
    return quantization_error(counts, low, high, float((values.double() ** 2).mean()))


def test_sqnr_of_a_uniform_tensor():
    """Evenly spread over [-1, 1]: the best grid leaves s^2/12 with s = 2/2^b (bounds half a step inside), so
    SQNR = 20 b log10(2) dB."""
    found = error_of(torch.linspace(-1, 1, 2**20))
    for bits in BITS:
        assert found[str(bits)]['sqnr'] == pytest.approx(20 * bits * math.log10(2), abs=0.1)  # K = 100 candidates


@pytest.mark.parametrize(
    'values',
    [
        torch.randn(200_000, generator=torch.Generator().manual_seed(0)),
        torch.randn(200_000, generator=torch.Generator().manual_seed(1)) ** 3,
        torch.softmax(2 * torch.randn(4000, 64, generator=torch.Generator().manual_seed(2)), 1).flatten(),
    ],
    ids=['normal', 'heavy tails', 'attention'],
)
def test_the_error_is_that_of_the_values(values: torch.Tensor):
    """With the bounds that calibration finds, on the values one by one."""
    found = error_of(values)
    for bits in BITS:
        lower, upper = search_bounds(values, Quantizer(bits), CalibrationConfig())
        scale = (upper - lower) / (2**bits - 1)
        error = dequantize(quantize(values, scale, lower, 2**bits), scale, lower) - values
        mse = float((error.double() ** 2).mean())
        assert found[str(bits)]['mse'] == pytest.approx(mse, rel=0.02), bits
        power = float((values.double() ** 2).mean())
        assert found[str(bits)]['sqnr'] == pytest.approx(10 * math.log10(power / mse), abs=0.1)


def test_sqnr_does_not_depend_on_the_unit():
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    small, large = error_of(values * 1e-4), error_of(values * 1e4)
    for bits in BITS:
        assert small[str(bits)]['sqnr'] == pytest.approx(large[str(bits)]['sqnr'], abs=0.02)
