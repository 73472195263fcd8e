"""Reading images, upscaling them by each network, and measuring the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from compsrt_basicsr.checkpoints.load import QUANTIZED, LoadedNetwork, load_network
from compsrt_basicsr.data import bicubic
from compsrt_basicsr.data.images import ImageError, read_image
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.execution import choose_execution
from compsrt_basicsr.inference.upscale import Advance, UpscaleSettings, check_settings, upscale
from compsrt_basicsr.study.compare.regions import SMALLEST, Region, check_region, check_side, find_regions
from compsrt_basicsr.study.compare.results import BICUBIC, MODEL, TEACHER, Comparison, Result, luma, score
from compsrt_basicsr.study.compare.sharpness import measure_sharpness, nyquist_of_input

FLOAT = 'float'


@dataclass(frozen=True)
class Contender:
    """A network that is compared, ready to run; the attributes are those of `Result`."""

    label: str
    role: str
    model: LoadedNetwork
    execution: str


@dataclass(frozen=True)
class ImagePair:
    """An original image and the small image that the networks upscale.

    Attributes:
        source, lr_source: their files; `lr_source` is None if the small image was made from the original.
        original: (h scale, w scale, 3) RGB uint8.
        small: (h, w, 3) RGB uint8.
    """

    source: Path
    lr_source: Path | None
    original: np.ndarray
    small: np.ndarray


@dataclass(frozen=True)
class RegionChoice:
    """The regions to show.

    Attributes:
        regions: chosen regions; if there are none, they are found.
        count: number of regions to find.
        side: side of a found region in pixels of the original.
    """

    regions: tuple[Region, ...] = ()
    count: int = 2
    side: int = 64


def load_contenders(
    models: Sequence[str], labels: Sequence[str], teacher: str | None, device: torch.device, execution: str
) -> list[Contender]:
    """Loads the teacher, if there is one, and the models.

    Args:
        models: files or `zoo://` names.
        labels: one label for each model.
        teacher: file or `zoo://` name of the teacher, or None.
        device: device of the networks.
        execution: how quantized networks are computed: 'auto', 'fake' or 'integer'.

    Raises:
        CompSRTError: if a network cannot be loaded, has no such execution, or has another scale than the first.
    """
    wanted = [(TEACHER, TEACHER, teacher)] if teacher else []
    wanted += [(label, MODEL, model) for label, model in zip(labels, models)]
    contenders: list[Contender] = []
    for label, role, source in wanted:
        model = load_network(source, device)
        first = contenders[0].model if contenders else model
        if model.scale != first.scale:
            raise CompSRTError(
                f'`{first.source}` has scale {first.scale} and `{source}` has scale {model.scale}: compare models of '
                'one scale.'
            )
        if model.scale < 2:
            raise CompSRTError(f'`{source}` does not upscale: give a model of scale 2 or more.')
        chosen = choose_execution(model, execution) if model.kind == QUANTIZED else FLOAT
        contenders.append(Contender(label, role, model, chosen))
    return contenders


def read_rgb(path: Path) -> np.ndarray:
    """Reads an 8-bit image. A grey image gets three equal channels, as in BasicSR's tests.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        CompSRTError: if the file does not exist, or is damaged or of another kind.
    """
    values = read_image(path)
    return values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)


def make_pair(path: Path, original: np.ndarray, scale: int, lr_path: Path | None = None) -> ImagePair:
    """Crops the original to a multiple of the scale, and makes or reads the small image.

    Args:
        path: file of `original`.
        original: (H, W, 3) RGB uint8.
        scale: scale of the networks.
        lr_path: file of the small image; None for the original, reduced like MATLAB's `imresize` does.

    Raises:
        CompSRTError: if the original is too small, or the small image has another size.
    """
    original = bicubic.mod_crop(original, scale)
    height, width = original.shape[:2]
    least = SMALLEST + 2 * scale
    if min(height, width) < least:
        raise ImageError(path, f'is {width}x{height} after cutting to a multiple of {scale}, smaller than {least}')
    if lr_path is None:
        return ImagePair(path, None, original, bicubic.downscale(original, scale))
    small = read_rgb(lr_path)
    if small.shape[:2] != (height // scale, width // scale):
        raise CompSRTError(
            f'`{lr_path}` has {small.shape[1]}x{small.shape[0]} pixels, not the {width // scale}x{height // scale} '
            f'of `{path}` at scale {scale}: give the small version of the same image.'
        )
    return ImagePair(path, lr_path, original, small)


def run_comparison(
    pair: ImagePair,
    contenders: Sequence[Contender],
    choice: RegionChoice,
    settings: UpscaleSettings,
    advance: Advance = lambda pixels: None,
) -> Comparison:
    """Upscales the small image by each network and measures the results.

    Args:
        pair: the images.
        contenders: at least one network, all of one scale.
        choice: the regions. Found ones are those where the networks differ most (`find_regions`); a single network is
            compared with bicubic interpolation.
        settings: how the image goes through the networks.
        advance: called with the number of pixels of the small image that a network has done.

    Raises:
        CompSRTError: if a region does not fit, or the result of a network cannot be used.
    """
    scale = contenders[0].model.scale
    height, width = pair.original.shape[:2]
    for region in choice.regions:
        check_region(region, height, width)
    if not choice.regions:
        check_side(choice.side, height, width, scale)
    for contender in contenders:
        check_settings(contender.model, settings)
    images = [bicubic.upscale(pair.small, scale)]
    images += [upscale(contender.model, pair.small, settings, advance) for contender in contenders]
    truth = luma(pair.original)
    lumas = [luma(image) for image in images]
    regions = choice.regions
    if not regions:
        compared = lumas[1:] if len(contenders) > 1 else lumas
        regions = tuple(find_regions([y - truth for y in compared], choice.count, choice.side, scale))
    cutoff = nyquist_of_input(scale)
    about: list[tuple[str, str, str | None, str | None]] = [(BICUBIC, BICUBIC, None, None)]
    about += [(c.label, c.role, c.model.source, c.execution) for c in contenders]
    inner = np.s_[scale:-scale, scale:-scale]
    results = tuple(
        Result(
            *labels,
            image,
            score(image, pair.original, scale),
            tuple(score(region.of(image), region.of(pair.original), 0) for region in regions),
            measure_sharpness(y[inner], cutoff),
        )
        for labels, image, y in zip(about, images, lumas)
    )
    return Comparison(
        name=pair.source.stem,
        source=str(pair.source),
        lr_source=None if pair.lr_source is None else str(pair.lr_source),
        scale=scale,
        original=pair.original,
        sharpness=measure_sharpness(truth[inner], cutoff),
        cutoff=cutoff,
        regions=regions,
        found=not choice.regions,
        results=results,
    )
