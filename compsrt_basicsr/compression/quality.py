"""What a compressed network loses: against the full-precision network, and against originals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from basicsr.metrics.psnr_ssim import calculate_psnr

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.compression.images import Photograph
from compsrt_basicsr.inference.upscale import UpscaleSettings, upscale
from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class Quality:
    """The results on one image.

    Attributes:
        name: of the image.
        to_float: PSNR in dB of the result against that of the full-precision network, all channels.
        before, after: PSNR-Y in dB of the full-precision and the quantized network against the original, a border of
            `scale` pixels left out; None for scale 1.
    """

    name: str
    to_float: float
    before: float | None
    after: float | None


def results_on(model: LoadedNetwork, images: Sequence[Photograph], progress: Progress = SILENT) -> list[np.ndarray]:
    """Returns the upscaled images, (H, W, 3) float32 in [0, 1]."""
    settings = UpscaleSettings(tile=0)
    found = []
    for image in progress.track(images, 'Measuring', 'image'):
        small = image.small.astype(np.float32) / 255
        if model.channels == 1:
            small = small @ np.array([[0.299], [0.587], [0.114]], np.float32)
        found.append(upscale(model, small, settings))
    return found


def qualities(
    images: Sequence[Photograph], before: Sequence[np.ndarray], after: Sequence[np.ndarray], scale: int
) -> list[Quality]:
    """Compares results of the quantized network with those of the full-precision network and with originals."""
    found = []
    for image, reference, result in zip(images, before, after):
        sides = [None, None] if scale == 1 else [psnr_y(x, image.original, scale) for x in (reference, result)]
        found.append(Quality(image.name, psnr(reference, result), sides[0], sides[1]))
    return found


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the PSNR in dB of values in [0, 1]; infinite where they are equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return -10 * math.log10(error) if error else math.inf


def mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean, None without values."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@torch.no_grad()
def levels_used(model: LoadedNetwork, images: Sequence[Photograph]) -> dict[int, tuple[int, int]]:
    """Counts the levels that the quantizers use on images, and the codes of the weights.

    Returns:
        By bit width, the number of quantizers and the most levels that one of them uses.
    """
    with counting_codes(model.network) as counts:
        results_on(model, images)
    used = [(count.bits, count.used) for count in counts.values() if count.used]
    for layer in quantized_layers(model.network).values():
        parts = layer.weight_quantizers()
        for quantizer, block in zip(parts, layer.weight_codes().chunk(len(parts))):
            rows = block.reshape(max(quantizer.lower.numel(), 1), -1)
            used.append((quantizer.bits, max(len(row.unique()) for row in rows)))
    return {
        bits: (sum(b == bits for b, _ in used), max(count for b, count in used if b == bits))
        for bits in sorted({bits for bits, _ in used})
    }


def psnr_y(result: np.ndarray, original: np.ndarray, scale: int) -> float:
    """Returns PSNR-Y in dB by BasicSR's metric, a border of `scale` pixels left out.

    Args:
        result: (H, W, C) in [0, 1].
        original: (H, W, 3) uint8, at least as large; what is beyond the result is left out.
        scale: of the network.
    """
    values = (result * 255).round().astype(np.uint8)
    if values.shape[2] == 1:
        values = values.repeat(3, 2)
        original = (original @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None].repeat(3, 2)
    height, width = (min(a, b) for a, b in zip(values.shape[:2], original.shape[:2]))
    pair = (x[:height, :width, ::-1] for x in (values, original))
    return float(calculate_psnr(*pair, crop_border=scale, test_y_channel=True))
