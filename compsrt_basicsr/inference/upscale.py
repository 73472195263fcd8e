"""Upscale one image, tile by tile: colour by the network, alpha by bicubic interpolation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.data import bicubic
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.tiling import OVERLAP, TILE, Span, Tile, spans, tiles
from compsrt_basicsr.quant.functional.padding import mirror_indices
from compsrt_basicsr.utils.out_of_memory import memory_for

DTYPES = {'float32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
_BLEED = 8  # pixels over which visible colours spread under fully transparent ones

Advance = Callable[[int], object]


@dataclass(frozen=True)
class UpscaleSettings:
    """How an image goes through a network.

    Attributes:
        tile: largest side that the network sees at once, in pixels, overlap included; 0: the whole image.
        overlap: pixels on each side of a tile that are computed but not kept.
        dtype: 'float32', 'bf16' or 'fp16': the type in which matrix products and convolutions are computed.
    """

    tile: int = TILE
    overlap: int = OVERLAP
    dtype: str = 'float32'


def check_settings(model: LoadedNetwork, settings: UpscaleSettings) -> None:
    """Checks before any work what would fail for every image.

    Raises:
        CompSRTError: if the tile is too small, the device lacks the dtype, or the network takes other channels.
    """
    spans(1, settings.tile, settings.overlap, model.multiple)
    if settings.dtype == 'fp16' and device_of(model).type == 'cpu':
        raise CompSRTError('`--dtype fp16` needs a GPU: give bf16 or float32 on the CPU.')
    if model.channels not in (1, 3):
        raise CompSRTError(f'`{model.source}` takes {model.channels} channels, not grey or RGB: give another model.')


def upscale(
    model: LoadedNetwork,
    image: np.ndarray,
    settings: UpscaleSettings | None = None,
    advance: Advance = lambda pixels: None,
) -> np.ndarray:
    """Upscales an image by the scale of a network.

    Beyond the image and the result, memory depends only on the tile. A network for RGB gets a grey image in all three
    channels, and their mean is kept. A network for grey gets the channels of an RGB image one by one. Alpha is upscaled
    by `data.bicubic.upscale`.

    Args:
        model: the network.
        image: (H, W, channels) uint8 or uint16; 1 channel: grey, 2: grey and alpha, 3: RGB, 4: RGB and alpha. Or
            float32 in [0, 1] without alpha, whose result is not rounded.
        settings: tile and arithmetic.
        advance: receives the number of pixels of `image` that each tile adds.

    Returns:
        (H scale, W scale, channels) of the same type.

    Raises:
        CompSRTError: if the settings do not fit (see `check_settings`), memory is too small, or the result is not
            finite.
    """
    settings = settings or UpscaleSettings()
    check_settings(model, settings)
    scale = model.scale
    height, width, channels = image.shape
    with memory_for('the image with its result', 'cut it into parts'):
        result = np.empty((height * scale, width * scale, channels), image.dtype)
    rows = mirror_indices(height, model.multiple).numpy()
    columns = mirror_indices(width, model.multiple).numpy()
    colours = channels if channels in (1, 3) else channels - 1
    for tile in tiles(height, width, settings.tile, settings.overlap, model.multiple):
        seen = image[rows[_seen(tile.rows)]][:, columns[_seen(tile.columns)]]
        inner = _inner(tile.rows, scale), _inner(tile.columns, scale)
        outer = _outer(tile.rows, scale), _outer(tile.columns, scale)
        with memory_for(_tile_text(tile), f'free memory of the {device_of(model).type}, or give a smaller --tile'):
            colour = seen if colours == channels else spread_colour(seen[:, :, :colours], seen[:, :, colours])
            result[(*outer, slice(colours))] = _run_network(model, colour, settings)[inner]
            if colours < channels:
                alpha = image[_seen(tile.rows), _seen(tile.columns), colours]  # no padding: bicubic.upscale mirrors
                result[(*outer, colours)] = bicubic.upscale(alpha, scale)[inner]
        advance(tile.pixels)
    return result


def _seen(span: Span) -> slice:
    return slice(span.start, span.stop)


def _inner(span: Span, scale: int) -> slice:
    """Returns where the kept part lies in the upscaled tile."""
    return slice((span.keep_start - span.start) * scale, (span.keep_stop - span.start) * scale)


def _outer(span: Span, scale: int) -> slice:
    """Returns where the kept part lies in the upscaled image."""
    return slice(span.keep_start * scale, span.keep_stop * scale)


def _run_network(model: LoadedNetwork, colour: np.ndarray, settings: UpscaleSettings) -> np.ndarray:
    """Upscales grey or RGB, (h, w, 1 or 3), sides multiples of the window, and rounds integers to whole levels."""
    top = 1 if colour.dtype.kind == 'f' else np.iinfo(colour.dtype).max
    device = device_of(model)
    dtype = DTYPES[settings.dtype]
    planes = torch.from_numpy(colour.astype(np.float32)).permute(2, 0, 1).to(device) / top
    batch = planes[:, None] if model.channels == 1 else planes.expand(3, -1, -1)[None]
    with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        output = model.network(batch).float()
    if not torch.isfinite(output).all():
        raise CompSRTError(
            f'the result holds values that are not finite, in {settings.dtype}: '
            + ('give --dtype float32.' if dtype != torch.float32 else 'the weights of the model are broken.')
        )
    output = output[:, 0] if model.channels == 1 else output[0]
    if output.shape[0] != colour.shape[2]:
        output = output.mean(0, keepdim=True)
    return _to_levels(output, top).astype(colour.dtype)


def _to_levels(output: Tensor, top: int) -> np.ndarray:
    """Converts (C, h, w) in [0, 1] to whole numbers (h, w, C) in [0, top], or to floats for a top of 1."""
    levels = output.clamp(0, 1) if top == 1 else (output.clamp(0, 1) * top).round()
    return levels.permute(1, 2, 0).cpu().numpy()


def spread_colour(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Spreads the colours of visible pixels under nearby fully transparent ones.

    The colours stored there are arbitrary, often black, and would bleed into the visible edges.

    Args:
        colour: (H, W, 1 or 3) of any integer type.
        alpha: (H, W); 0 is fully transparent.

    Returns:
        (H, W, 1 or 3), where each transparent pixel within 8 pixels of a visible one has the mean colour of its
        neighbours.
    """
    known = alpha > 0
    if known.all() or not known.any():
        return colour
    import cv2  # for few images: it takes a while to import

    result = colour.astype(np.float32)
    for _ in range(_BLEED):
        weight = cv2.boxFilter(known.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        fresh = ~known & (weight > 0.5)
        sums = cv2.boxFilter(
            result * known[:, :, None], -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT
        ).reshape(result.shape)
        result[fresh] = sums[fresh] / weight[fresh][:, None]
        known |= fresh
    return result.round().astype(colour.dtype)


def device_of(model: LoadedNetwork) -> torch.device:
    """Returns where a network is."""
    return next(model.network.parameters()).device


def _tile_text(tile: Tile) -> str:
    return f'a tile of {tile.columns.stop - tile.columns.start}x{tile.rows.stop - tile.rows.start} pixels'
