"""Comparison of a file for an engine with its network in torch.

The float arithmetic of the two differs in the last bits. In a quantized network this moves some activations to the next
code, and later layers spread the difference, until all roundings after it are as good as drawn anew: adding 1e-7 to the
input leaves 62 dB between two results of a 4-bit SwinIR-light within torch, and 48 dB between two of a DCTLSA whose
outputs are quantized, as far as its rounding takes it from the network without rounding. So the two are compared

- without the rounding of activations on either side, where they must agree up to the last bits, and
- with it, where they must be near each other, or the file as near to the network without rounding as torch is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from basicsr.metrics import calculate_psnr
from torch import Tensor, nn

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.basicsr_compat.metrics import too_small
from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.images import list_images, read_image
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.engines import Session
from compsrt_basicsr.onnx.model import INPUT
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.utils.out_of_memory import memory_for

Image = np.ndarray
MOST_PSNR_LOSS = 0.01  # dB: largest accepted difference in mean PSNR-Y
SMOOTH_LEAST = 90.0  # dB between the two without rounding of activations; a missing attention mask gives 55 to 66 dB
ROUNDED_LEAST = 50.0  # dB between the two with rounding of activations, or else
_ROUNDING_SLACK = 3.0  # dB that the rounding of the file may be farther from no rounding than that of torch
_SIZES = ((1, 1), (7, 5), (16, 9), (23, 17), (48, 33), (40, 56), (65, 71))  # pixels, of synthetic images
_FEW_PIXELS = 256  # below, the rounding of one image is no measure of what rounding does


@dataclass(frozen=True)
class Sample:
    """An image to compare on.

    Attributes:
        name: name for the report.
        image: network input, (1, C, h, w) in [0, 1].
        original: ground truth, (H, W) or (H, W, 3) uint8, or None.
    """

    name: str
    image: Tensor
    original: np.ndarray | None = None


@dataclass(frozen=True)
class Comparison:
    """The comparison on one image.

    Attributes:
        name: name of the image.
        height, width: size of the input in pixels.
        psnr: PSNR between the two results, clamped to [0, 1], in dB; infinite if they are equal.
        largest: largest difference in 8-bit grey levels.
        quality: PSNR-Y of torch and of the file against the original in dB, or None.
        rounding: PSNR of torch and of the file against the network without rounding in dB, or None.
    """

    name: str
    height: int
    width: int
    psnr: float
    largest: float
    quality: tuple[float, float] | None
    rounding: tuple[float, float] | None = None


def synthetic_samples(channels: int) -> list[Sample]:
    """Makes smooth random images, always the same: one pixel, odd sides, sides below and above those of windows."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for number, (height, width) in enumerate(_SIZES, 1):
        coarse = torch.rand(1, channels, height // 8 + 2, width // 8 + 2, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode='bicubic').clamp(0, 1)
        samples.append(Sample(f'synthetic {number}', smooth))
    return samples


def image_samples(folder: Path, shape: Geometry) -> Iterator[Sample]:
    """Yields the images of a folder as network inputs."""
    for path in list_images(folder):
        yield Sample(path.name, _planes(read_image(path), shape))


def benchmark_samples(folder: Path, shape: Geometry) -> Iterator[Sample]:
    """Yields the images of a folder, or of its subfolder `HR`, as originals; the inputs are downscaled (bicubic).

    Raises:
        CompSRTError: if the scale of the network is 1.
    """
    if shape.scale == 1:
        raise CompSRTError('A network of scale 1 has no low-resolution inputs: give --images instead of --benchmark.')
    for path in list_images(folder / 'HR' if (folder / 'HR').is_dir() else folder):
        original = mod_crop(read_image(path), shape.scale)
        yield Sample(path.name, _planes(downscale(original, shape.scale), shape), original)


@torch.no_grad()
def torch_result(network: nn.Module, shape: Geometry, sample: Sample) -> Image:
    """Computes the result of a network for an image of any size, (1, C', h scale, w scale)."""
    height, width = sample.image.shape[-2:]
    result = network(pad_to_multiple(sample.image, shape.multiple)).numpy()
    return result[:, :, : height * shape.scale, : width * shape.scale]


def compare(
    network: nn.Module,
    shape: Geometry,
    session: Session,
    samples: Iterable[Sample],
    smooth: Sequence[Image] | None = None,
) -> list[Comparison]:
    """Compares the results of network and session on each sample.

    Args:
        network: the network.
        shape: its geometry.
        session: the file.
        samples: what to compare on.
        smooth: results of the network without rounding, for `Comparison.rounding`.

    Raises:
        CompSRTError: if the results differ in shape, the engine cannot compute one, or an image needs too much memory.
    """
    comparisons = []
    for number, sample in enumerate(samples):
        height, width = sample.image.shape[-2:]
        with memory_for(f'`{sample.name}`', 'compare on smaller images'):
            ours = torch_result(network, shape, sample)
            (theirs,) = session.run(None, {INPUT: sample.image.numpy()})
        if theirs.shape != ours.shape:
            raise CompSRTError(
                f'The file returns {theirs.shape} for `{sample.name}`, the network {ours.shape}: please report this.'
            )
        largest = 255 * float(np.abs(_clamped(theirs) - _clamped(ours)).max())
        original, quality = sample.original, None
        if original is not None:
            _require_size(sample.name, original, shape.scale)
            quality = _psnr_y(ours, original, shape.scale), _psnr_y(theirs, original, shape.scale)
        rounding = None if smooth is None else (psnr(ours, smooth[number]), psnr(theirs, smooth[number]))
        found = Comparison(sample.name, height, width, psnr(ours, theirs), largest, quality, rounding)
        comparisons.append(found)
    return comparisons


def psnr(one: Image, other: Image) -> float:
    """Computes the PSNR of two results, clamped to [0, 1], in dB; NaN if one has a NaN."""
    error = float(np.mean((_clamped(one) - _clamped(other)) ** 2))
    return -10 * math.log10(error) if error else math.inf


def _clamped(x: Image) -> Image:
    return np.clip(x.astype(np.float64), 0, 1)


def mean_quality(comparisons: Sequence[Comparison]) -> tuple[float, float] | None:
    """Returns the mean PSNR-Y of torch and of the file over all images with originals in dB; None without any."""
    known = [c.quality for c in comparisons if c.quality]
    if not known:
        return None
    ours, theirs = (sum(side) / len(known) for side in zip(*known))
    return ours, theirs


def quality_loss(comparisons: Sequence[Comparison]) -> float:
    """Returns the absolute difference of the two mean PSNR-Y in dB; 0 without originals.

    Equal values count as 0, even if both are infinite.
    """
    known = [0.0 if c.quality[0] == c.quality[1] else c.quality[0] - c.quality[1] for c in comparisons if c.quality]
    return abs(sum(known) / len(known)) if known else 0.0


def check_agreement(comparisons: Sequence[Comparison], least: float) -> None:
    """Checks that a file computes the same as its network.

    Results below `least` agree too if the file is as near to the network without rounding as torch is, up to
    `_ROUNDING_SLACK`. Images of few pixels are held to the image on which torch is farthest from no rounding.

    Args:
        comparisons: the comparisons to check.
        least: smallest accepted PSNR between the two in dB.

    Raises:
        CompSRTError: if they differ on an image, or a result is not a number.
    """
    farthest = min((found.rounding[0] for found in comparisons if found.rounding), default=math.inf)
    for found in comparisons:
        agree = found.psnr >= least  # false for NaN
        if found.rounding is not None:
            ours, theirs = found.rounding
            ours = min(ours, farthest) if found.height * found.width < _FEW_PIXELS else ours
            agree = agree or theirs >= min(ours - _ROUNDING_SLACK, SMOOTH_LEAST)
        if not agree:
            raise CompSRTError(
                f'The file and torch differ on `{found.name}`: the PSNR between them is {found.psnr:.1f} dB, '
                f'expected at least {least:g} dB. No file was written; please report this.'
            )


def check_quality(comparisons: Sequence[Comparison]) -> None:
    """Checks that a model restores the originals as well as its network.

    Raises:
        CompSRTError: if the mean PSNR-Y differs by `MOST_PSNR_LOSS` or more.
    """
    loss = quality_loss(comparisons)
    if not loss < MOST_PSNR_LOSS:
        raise CompSRTError(
            f'ONNX Runtime and torch differ by {loss:.4f} dB in mean PSNR-Y, expected less than {MOST_PSNR_LOSS:g} dB. '
            'No file was written; please report this.'
        )


@contextmanager
def without_rounding(network: nn.Module) -> Iterator[None]:
    """Disables the rounding of all activations inside the context; weights keep their codes."""
    weight_quantizers = {q for layer in quantized_layers(network).values() for q in layer.weight_quantizers()}
    smooth = [q for q in quantizers(network).values() if q not in weight_quantizers]
    try:
        for quantizer in smooth:
            quantizer.forward = partial(clip, quantizer)  # type: ignore[method-assign]
        yield
    finally:
        for quantizer in smooth:
            del quantizer.forward


def model_without_rounding(model: onnx.ModelProto) -> bytes:
    """Replaces the Round operators of an exact model, all of which round activations, by Identity."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for node in copy.graph.node:
        if node.op_type == 'Round':
            node.op_type = 'Identity'
    return copy.SerializeToString()


def clip(quantizer: Quantizer, x: Tensor) -> Tensor:
    """Computes `Quantizer.forward` without the rounding."""
    scale, zero = quantizer.grid_on(x)
    if quantizer.code_range == 'paper':
        return (torch.clamp(x, *quantizer.bounds()) - zero) / scale * scale + zero
    return ((x - zero) / scale).clamp(0, quantizer.levels - 1) * scale + zero


def _planes(image: np.ndarray, shape: Geometry) -> Tensor:
    """Converts (h, w) or (h, w, 3) uint8 to (1, C, h, w) in [0, 1]."""
    if shape.channels not in (1, 3):
        raise CompSRTError(
            f'The network takes {shape.channels} channels, but images have 1 or 3: leave out --images and --benchmark.'
        )
    planes = torch.from_numpy(image.astype(np.float32) / 255)
    planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
    return (planes.mean(0, keepdim=True) if shape.channels == 1 else planes.expand(3, -1, -1))[None]


def _require_size(name: str, original: np.ndarray, scale: int) -> None:
    """Raises CompSRTError for an original of which PSNR without a border of `scale` pixels would be undefined."""
    height, width = original.shape[:2]
    if needed := too_small({'type': 'calculate_psnr', 'crop_border': scale}, height, width):
        raise CompSRTError(f'`{name}` of {width}x{height} pixels is too small for PSNR, which needs {needed}.')


def _psnr_y(result: np.ndarray, original: np.ndarray, scale: int) -> float:
    """Computes the PSNR of a result, rounded to 8 bits, on the Y channel without a border of `scale` pixels, in dB."""
    levels = (np.clip(result[0], 0, 1) * 255).round().astype(np.uint8)
    image = np.ascontiguousarray(levels[::-1].transpose(1, 2, 0))  # BasicSR expects BGR
    truth = original[:, :, None] if original.ndim == 2 else original[:, :, ::-1]
    channels = image.shape[2]
    if truth.shape[2] != channels:
        truth = truth.mean(2, keepdims=True) if channels == 1 else np.repeat(truth, channels, 2)
    return float(calculate_psnr(image, truth, crop_border=scale, test_y_channel=channels == 3))
