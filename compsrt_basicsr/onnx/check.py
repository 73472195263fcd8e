"""An ONNX model compared with its network: what ONNX Runtime computes against what torch computes.

Float arithmetic differs in the last bits between the two. In a quantized network that moves some activations to the
next code, a jump that later layers spread; so it does in torch itself when 1e-7 is added to the input, which leaves 62
dB between two results of a 4-bit SwinIR-light. The graph is therefore compared a second time with the rounding of the
activations left out on both sides: nothing jumps, and what remains must agree to the last bits.
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
import onnxruntime
import torch
import torch.nn.functional as F
from basicsr.metrics import calculate_psnr
from torch import Tensor, nn

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.pictures import list_pictures, read_picture
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.model import INPUT
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers

MOST_PSNR_LOSS = 0.01  # dB, between the two, against the originals
SMOOTH_LEAST = 90.0  # dB between the two where nothing jumps; a forgotten attention mask leaves 55 to 66
ROUNDED_LEAST = 50.0  # dB between the two where codes jump


@dataclass(frozen=True)
class Sample:
    """A picture to compare on.

    Attributes:
        name: for the report.
        picture: (1, C, h, w) in [0, 1].
        original: (H, W) or (H, W, 3) uint8, what the result should be, if that is known.
    """

    name: str
    picture: Tensor
    original: np.ndarray | None = None


@dataclass(frozen=True)
class Comparison:
    """Two results for one picture.

    Attributes:
        name: of the picture.
        height, width: of the picture, in pixels.
        psnr: between the two, in dB, peak 1; infinite if they are equal.
        largest: difference, in 8-bit grey levels.
        quality: PSNR-Y in dB of torch and of ONNX Runtime against the original, or None.
    """

    name: str
    height: int
    width: int
    psnr: float
    largest: float
    quality: tuple[float, float] | None


def made_samples(shape: Geometry, img_size: int) -> list[Sample]:
    """Smooth random pictures, the same at every call: one pixel, odd sides, sides below and above `img_size`.

    Args:
        shape: of the network.
        img_size: the side it was made for, where its masks come from another place.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = ((1, 1), (5, 7), (9, 16), (16, 16), (17, 23), (img_size, img_size), (img_size + 8, img_size - 3))
    samples = []
    for number, (height, width) in enumerate(sizes, 1):
        coarse = torch.rand(1, shape.channels, height // 8 + 2, width // 8 + 2, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode='bicubic').clamp(0, 1)
        samples.append(Sample(f'made {number}', smooth))
    return samples


def picture_samples(folder: Path, shape: Geometry) -> Iterator[Sample]:
    """The pictures of a folder, as they are."""
    for path in list_pictures(folder):
        yield Sample(path.name, _planes(read_picture(path), shape))


def benchmark_samples(folder: Path, shape: Geometry) -> Iterator[Sample]:
    """The pictures of a folder, or of `HR` in it, as originals; the network gets them reduced by MATLAB's bicubic."""
    if shape.scale == 1:
        raise CompSRTError('A network of scale 1 has no low-resolution pictures: give --pictures, not --benchmark.')
    for path in list_pictures(folder / 'HR' if (folder / 'HR').is_dir() else folder):
        original = mod_crop(read_picture(path), shape.scale)
        yield Sample(path.name, _planes(downscale(original, shape.scale), shape), original)


def open_session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """A session with the default options, but for the threads, which are as many as torch's.

    Args:
        model: a file or what is in it.

    Raises:
        CompSRTError: this ONNX Runtime does not run the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions have no common class
        reason = str(error).splitlines()[0]
        raise CompSRTError(
            f'ONNX Runtime {onnxruntime.__version__} does not run the model ({reason}): '
            '`python -m pip install --upgrade onnxruntime`.'
        ) from error


@torch.no_grad()
def compare(
    network: nn.Module, shape: Geometry, session: onnxruntime.InferenceSession, samples: Iterable[Sample]
) -> list[Comparison]:
    """Runs both on each picture."""
    comparisons = []
    for sample in samples:
        height, width = sample.picture.shape[-2:]
        with _memory_fault(sample):
            padded = network(pad_to_multiple(sample.picture, shape.multiple)).numpy()
            (theirs,) = session.run(None, {INPUT: sample.picture.numpy()})
        ours = padded[:, :, : height * shape.scale, : width * shape.scale]
        if theirs.shape != ours.shape:
            raise CompSRTError(f'The ONNX model makes {theirs.shape} of {sample.name}, the network {ours.shape}.')
        difference = theirs.astype(np.float64) - ours
        error = float(np.mean(difference**2))
        quality = None
        if sample.original is not None:
            quality = tuple(_psnr_y(result, sample.original, shape.scale) for result in (ours, theirs))
        psnr = -10 * math.log10(error) if error else math.inf
        largest = 255 * float(np.abs(difference).max())
        comparisons.append(Comparison(sample.name, height, width, psnr, largest, quality))
    return comparisons


def mean_quality(comparisons: Sequence[Comparison]) -> tuple[float, float] | None:
    """Mean PSNR-Y of torch and of ONNX Runtime over the pictures with originals, in dB, or None."""
    known = [c.quality for c in comparisons if c.quality]
    return tuple(sum(side) / len(known) for side in zip(*known)) if known else None


def quality_loss(comparisons: Sequence[Comparison]) -> float:
    """By how much the mean PSNR-Y of the two differs, in dB; 0 without originals.

    Two equal values count as 0, infinite ones, of pictures that both restore exactly, included.
    """
    known = [0.0 if c.quality[0] == c.quality[1] else c.quality[0] - c.quality[1] for c in comparisons if c.quality]
    return abs(sum(known) / len(known)) if known else 0.0


def check_agreement(comparisons: Iterable[Comparison], least: float) -> None:
    """Refuses a model that does not compute what its network does.

    Args:
        comparisons: of the two.
        least: dB between them for each picture.

    Raises:
        CompSRTError: they differ by more.
    """
    for found in comparisons:
        if not found.psnr >= least:  # NaN too
            raise CompSRTError(
                f'ONNX Runtime and torch differ on `{found.name}`: {found.psnr:.1f} dB between them, {least:g} or more '
                'are expected; nothing was written, please report this.'
            )


def check_quality(comparisons: Sequence[Comparison]) -> None:
    """Refuses a model whose results are another distance from the originals than torch's.

    Raises:
        CompSRTError: the mean PSNR-Y differs by `MOST_PSNR_LOSS` or more.
    """
    loss = quality_loss(comparisons)
    if not loss < MOST_PSNR_LOSS:
        raise CompSRTError(
            f'ONNX Runtime and torch differ by {loss:.4f} dB in mean PSNR-Y where less than {MOST_PSNR_LOSS:g} is '
            'expected; nothing was written.'
        )


@contextmanager
def without_rounding(network: nn.Module) -> Iterator[None]:
    """Leaves out the rounding of all activations inside the context; weights keep their codes."""
    of_weights = {q for layer in quantized_layers(network).values() for q in layer.weight_quantizers()}
    smooth = [q for q in quantizers(network).values() if q not in of_weights]
    try:
        for quantizer in smooth:
            quantizer.forward = partial(_clip, quantizer)
        yield
    finally:
        for quantizer in smooth:
            del quantizer.forward


def model_without_rounding(file: Path) -> bytes:
    """A model whose Round operators pass their input through; only activations are rounded in it."""
    model = onnx.load(file)
    for node in model.graph.node:
        if node.op_type == 'Round':
            node.op_type = 'Identity'
    return model.SerializeToString()


@contextmanager
def _memory_fault(sample: Sample) -> Iterator[None]:
    """Tells a lack of memory in one sentence."""
    try:
        yield
    except Exception as error:  # each library has a class of its own
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in ('memory', 'bad_alloc')):
            raise
        raise CompSRTError(f'`{sample.name}` needs more memory than is free: compare on smaller pictures.') from error


def _clip(quantizer: Quantizer, x: Tensor) -> Tensor:
    """`Quantizer.forward` without the rounding."""
    scale, zero = quantizer.grid()
    if quantizer.code_range == 'paper':
        return (torch.clamp(x, *quantizer.bounds()) - zero) / scale * scale + zero
    return ((x - zero) / scale).clamp(0, quantizer.levels - 1) * scale + zero


def _planes(picture: np.ndarray, shape: Geometry) -> Tensor:
    """(h, w) or (h, w, 3) uint8 to (1, C, h, w) in [0, 1]."""
    if shape.channels not in (1, 3):
        raise CompSRTError(f'The network takes {shape.channels} channels, pictures have 1 or 3: give no pictures.')
    planes = torch.from_numpy(picture.astype(np.float32) / 255)
    planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
    return (planes.mean(0, keepdim=True) if shape.channels == 1 else planes.expand(3, -1, -1))[None]


def _psnr_y(result: np.ndarray, original: np.ndarray, scale: int) -> float:
    """PSNR in dB of the rounded result, on the Y channel of the middle without `scale` pixels of border."""
    levels = (np.clip(result[0], 0, 1) * 255).round().astype(np.uint8)
    picture = np.ascontiguousarray(levels[::-1].transpose(1, 2, 0))  # BasicSR reads blue, green, red
    truth = original[:, :, None] if original.ndim == 2 else original[:, :, ::-1]
    channels = picture.shape[2]
    if truth.shape[2] != channels:
        truth = truth.mean(2, keepdims=True) if channels == 1 else np.repeat(truth, channels, 2)
    return calculate_psnr(picture, truth, crop_border=scale, test_y_channel=channels == 3)
