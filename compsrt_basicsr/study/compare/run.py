"""From files to a `Comparison`: reading, enlarging, measuring."""

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
    """A network that takes part, ready to run; attributes as of `Result`."""

    label: str
    role: str
    model: LoadedNetwork
    execution: str


@dataclass(frozen=True)
class Pair:
    """A picture and what the networks see of it.

    Attributes:
        source, lr_source: files; the latter is None if the small picture was made from the large one.
        original: (h scale, w scale, 3) RGB uint8.
        small: (h, w, 3) RGB uint8.
    """

    source: Path
    lr_source: Path | None
    original: np.ndarray
    small: np.ndarray


@dataclass(frozen=True)
class Choice:
    """Which regions to show.

    Attributes:
        regions: given ones; if there are none, they are found.
        count, side: how many to find, and their side in pixels of the original.
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
        labels: one for each of them.
        teacher: likewise, or None.
        device: where to put them.
        execution: how the quantized ones compute: 'auto', 'fake' or 'integer'.

    Raises:
        CompSRTError: one cannot be loaded, run so, or enlarges by another factor than the first.
    """
    wanted = [(TEACHER, TEACHER, teacher)] if teacher else []
    wanted += [(label, MODEL, model) for label, model in zip(labels, models)]
    contenders: list[Contender] = []
    for label, role, source in wanted:
        model = load_network(source, device)
        first = contenders[0].model if contenders else model
        if model.scale != first.scale:
            raise CompSRTError(
                f'`{first.source}` enlarges {first.scale} times and `{source}` {model.scale} times: '
                'compare models of one scale.'
            )
        if model.scale < 2:
            raise CompSRTError(f'`{source}` does not enlarge pictures: give a model of scale 2 or more.')
        chosen = choose_execution(model, execution) if model.kind == QUANTIZED else FLOAT
        contenders.append(Contender(label, role, model, chosen))
    return contenders


def read_rgb(path: Path) -> np.ndarray:
    """Reads an 8-bit picture; a grey one gets three equal channels, as BasicSR's tests read it.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        CompSRTError: there is none, or it is damaged or of another kind.
    """
    if not path.is_file():
        raise CompSRTError(f'`{path}` {"is a folder" if path.is_dir() else "does not exist"}: give a picture.')
    values = read_image(path)
    return values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)


def make_pair(path: Path, original: np.ndarray, scale: int, lr_path: Path | None = None) -> Pair:
    """Cuts the original to a multiple of the scale and makes, or reads, the small picture.

    Args:
        path: where `original` comes from.
        original: (H, W, 3) RGB uint8.
        scale: of the networks.
        lr_path: the small picture; None: MATLAB's bicubic reduction of the original.

    Raises:
        CompSRTError: the original is too small, or the small picture is of another size.
    """
    original = bicubic.mod_crop(original, scale)
    height, width = original.shape[:2]
    least = SMALLEST + 2 * scale
    if min(height, width) < least:
        raise ImageError(path, f'is {width}x{height} after cutting to a multiple of {scale}, smaller than {least}')
    if lr_path is None:
        return Pair(path, None, original, bicubic.downscale(original, scale))
    small = read_rgb(lr_path)
    if small.shape[:2] != (height // scale, width // scale):
        raise CompSRTError(
            f'`{lr_path}` has {small.shape[1]}x{small.shape[0]} pixels, not the {width // scale}x{height // scale} '
            f'that `{path}` has at scale {scale}: give the small version of the same picture.'
        )
    return Pair(path, lr_path, original, small)


def run_comparison(
    pair: Pair,
    contenders: Sequence[Contender],
    choice: Choice,
    settings: UpscaleSettings,
    advance: Advance = lambda pixels: None,
) -> Comparison:
    """Enlarges the picture by each network and measures the results.

    Args:
        pair: the picture.
        contenders: at least one, all of one scale.
        choice: of regions. Found ones are those in which the networks differ most (`find_regions`), a single network
            and bicubic interpolation.
        settings: how the picture goes through the networks.
        advance: told how many pixels of the small picture a network has done.

    Raises:
        CompSRTError: a region does not fit, or a network's result cannot be used.
    """
    scale = contenders[0].model.scale
    height, width = pair.original.shape[:2]
    for region in choice.regions:
        check_region(region, height, width)
    if not choice.regions:
        check_side(choice.side, height, width, scale)
    for contender in contenders:
        check_settings(contender.model, settings)
    pictures = [bicubic.upscale(pair.small, scale)]
    pictures += [upscale(contender.model, pair.small, settings, advance) for contender in contenders]
    truth = luma(pair.original)
    lumas = [luma(picture) for picture in pictures]
    regions = choice.regions
    if not regions:
        compared = lumas[1:] if len(contenders) > 1 else lumas
        regions = tuple(find_regions([y - truth for y in compared], choice.count, choice.side, scale))
    cutoff = nyquist_of_input(scale)
    about = [(BICUBIC, BICUBIC, None, None)]
    about += [(c.label, c.role, c.model.source, c.execution) for c in contenders]
    results = tuple(
        Result(
            *told,
            picture,
            score(picture, pair.original, scale),
            tuple(score(region.of(picture), region.of(pair.original), 0) for region in regions),
            measure_sharpness(_inner(y, scale), cutoff),
        )
        for told, picture, y in zip(about, pictures, lumas)
    )
    return Comparison(
        pair.source.stem,
        str(pair.source),
        pair.lr_source and str(pair.lr_source),
        scale,
        pair.original,
        measure_sharpness(_inner(truth, scale), cutoff),
        cutoff,
        regions,
        not choice.regions,
        results,
    )


def _inner(luma: np.ndarray, border: int) -> np.ndarray:
    return luma[border:-border, border:-border]
