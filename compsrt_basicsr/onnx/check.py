"""Comparison of an ONNX model in ONNX Runtime with its network in torch.

The float arithmetic of the two differs in the last bits. In a quantized network this moves some activations to the next
code, and later layers spread the difference. Adding 1e-7 to the input has the same effect within torch: it leaves 62 dB
between two results of a 4-bit SwinIR-light. So the two are compared a second time without the rounding of activations
on either side, where they must agree up to the last bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from basicsr.metrics import calculate_psnr
from torch import Tensor, nn

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.basicsr_compat.metrics import too_small
from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.images import list_images, read_image
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.model import INPUT
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory, memory_for


class Session(Protocol):
    """A loaded model."""

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Returns the outputs."""


MOST_PSNR_LOSS = 0.01  # dB: largest accepted difference in mean PSNR-Y
SMOOTH_LEAST = 90.0  # dB between the two without rounding of activations; a missing attention mask gives 55 to 66 dB
ROUNDED_LEAST = 50.0  # dB between the two with rounding of activations


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
        psnr: PSNR between the two results in dB, peak 1 or the largest value; infinite if they are equal.
        largest: largest difference in 8-bit grey levels.
        quality: PSNR-Y of torch and of ONNX Runtime against the original in dB, or None.
    """

    name: str
    height: int
    width: int
    psnr: float
    largest: float
    quality: tuple[float, float] | None


def synthetic_samples(shape: Geometry, img_size: int) -> list[Sample]:
    """Makes seven smooth random images, always the same: one pixel, odd sides, sides below, at and above `img_size`.

    Args:
        shape: geometry of the network.
        img_size: `img_size` of the network, at which SwinIR uses precomputed masks.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = ((1, 1), (5, 7), (9, 16), (16, 16), (17, 23), (img_size, img_size), (img_size + 8, img_size - 3))
    samples = []
    for number, (height, width) in enumerate(sizes, 1):
        coarse = torch.rand(1, shape.channels, height // 8 + 2, width // 8 + 2, generator=generator)
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


def open_session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """Opens a session with default options, except that it uses as many threads as torch.

    Args:
        model: a file, or its content.

    Raises:
        CompSRTError: if the installed ONNX Runtime cannot run the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: it warns of each constant that it folds
    try:
        return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise CompSRTError(
            f'ONNX Runtime {onnxruntime.__version__} cannot run the model ({reason}): '
            'run `python -m pip install --upgrade onnxruntime`.'
        ) from error


@torch.no_grad()
def compare(network: nn.Module, shape: Geometry, session: Session, samples: Iterable[Sample]) -> list[Comparison]:
    """Compares the results of network and session on each sample.

    Raises:
        CompSRTError: if the results differ in shape or an image needs too much memory.
    """
    comparisons = []
    for sample in samples:
        height, width = sample.image.shape[-2:]
        with memory_for(f'`{sample.name}`', 'compare on smaller images'):
            padded = network(pad_to_multiple(sample.image, shape.multiple)).numpy()
            (theirs,) = session.run(None, {INPUT: sample.image.numpy()})
        ours = padded[:, :, : height * shape.scale, : width * shape.scale]
        if theirs.shape != ours.shape:
            raise CompSRTError(
                f'The ONNX model returns {theirs.shape} for `{sample.name}`, the network {ours.shape}: '
                'please report this.'
            )
        difference = theirs.astype(np.float64) - ours
        peak = max(1.0, float(np.abs(ours).max()))  # untrained networks exceed [0, 1] by far
        error = float(np.mean((difference / peak) ** 2))
        original, quality = sample.original, None
        if original is not None:
            _require_size(sample.name, original, shape.scale)
            quality = _psnr_y(ours, original, shape.scale), _psnr_y(theirs, original, shape.scale)
        psnr = -10 * math.log10(error) if error else math.inf
        largest = 255 * float(np.abs(difference).max())
        comparisons.append(Comparison(sample.name, height, width, psnr, largest, quality))
    return comparisons


def mean_quality(comparisons: Sequence[Comparison]) -> tuple[float, float] | None:
    """Returns the mean PSNR-Y of torch and of ONNX Runtime over all images with originals in dB; None without any."""
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


def check_agreement(comparisons: Iterable[Comparison], least: float) -> None:
    """Checks that a model computes the same as its network.

    Args:
        comparisons: the comparisons to check.
        least: smallest accepted PSNR between the two in dB.

    Raises:
        CompSRTError: if the PSNR of an image is below `least`, or is not a number.
    """
    for found in comparisons:
        if not found.psnr >= least:  # also true for NaN
            raise CompSRTError(
                f'ONNX Runtime and torch differ on `{found.name}`: the PSNR between them is {found.psnr:.1f} dB, '
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


def model_without_rounding(file: Path) -> bytes:
    """Replaces the Round operators of a model, all of which round activations, by Identity."""
    model = onnx.load(file)
    for node in model.graph.node:
        if node.op_type == 'Round':
            node.op_type = 'Identity'
    return model.SerializeToString()


def clip(quantizer: Quantizer, x: Tensor) -> Tensor:
    """Computes `Quantizer.forward` without the rounding."""
    scale, zero = quantizer.grid()
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
