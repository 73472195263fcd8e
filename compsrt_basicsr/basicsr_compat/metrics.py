"""What BasicSR's metrics need: the smallest image, a ground truth, arrays."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from compsrt_basicsr.errors import CompSRTError

_WINDOW = 11  # side of SSIM's window, which lies inside the image
_BLOCK, _BLOCKS = 96, 2  # NIQE's; the covariance of a single block is undefined
_OF_TENSORS = {'calculate_psnr_pt': 'calculate_psnr', 'calculate_ssim_pt': 'calculate_ssim'}


def too_small(how: Mapping[str, Any], height: int, width: int) -> str | None:
    """Returns what a metric needs if an image is smaller than that, else None.

    Args:
        how: The metric's section of the options: `type` and its arguments.
        height: Height of the image in pixels.
        width: Its width.
    """
    border = 2 * int(how.get('crop_border') or 0)
    kind, inner = how.get('type'), (height - border, width - border)
    cropped = f' after {border // 2} pixels are cropped at each border' if border else ''
    if kind == 'calculate_psnr' and min(inner) < 1:
        return f'at least 1 pixel{cropped}'
    if kind == 'calculate_ssim' and min(inner) < _WINDOW:
        return f'at least {_WINDOW}x{_WINDOW} pixels{cropped}'
    if kind == 'calculate_niqe' and max(inner[0] // _BLOCK, 0) * max(inner[1] // _BLOCK, 0) < _BLOCKS:
        return f'at least {_BLOCK}x{_BLOCKS * _BLOCK} pixels{cropped}'
    return None


def check_sizes(metrics: Mapping[str, Mapping[str, Any]], dataset: str, sizes: Iterable[tuple[str, int, int]]) -> None:
    """Makes sure that every metric can take every image of a data set, before the first one is measured.

    A mean over some of the images would stand under the name of the mean over all, beside those of other networks.

    Args:
        metrics: The section `val.metrics`.
        dataset: Name of the data set.
        sizes: Name, height and width of each image.

    Raises:
        CompSRTError: If an image is too small for a metric.
    """
    for name, height, width in sizes:
        for metric, how in metrics.items():
            needed = too_small(how, height, width)
            if needed:
                raise CompSRTError(
                    f'The data set `{dataset}`: image `{name}` of {width}x{height} pixels is too small for '
                    f'`val.metrics.{metric}` ({how["type"]}), which needs {needed}: take the image out of the data '
                    'set, or leave the metric out.'
                )


def check_kinds(metrics: Mapping[str, Mapping[str, Any]], dataset: str, has_truth: bool) -> None:
    """Makes sure that BasicSR's validation can give every metric what it compares.

    Args:
        metrics: The section `val.metrics`.
        dataset: Name of the data set.
        has_truth: Whether the data set has a ground truth.

    Raises:
        CompSRTError: If a metric takes tensors, or compares with a ground truth that is not there.
    """
    from basicsr.utils.registry import METRIC_REGISTRY

    known = dict(iter(METRIC_REGISTRY))
    for metric, how in metrics.items():
        kind = how.get('type')
        if kind in _OF_TENSORS:
            raise CompSRTError(
                f'`val.metrics.{metric}`: {kind} takes tensors, but BasicSR validates with arrays: use '
                f'`{_OF_TENSORS[kind]}`.'
            )
        wants = inspect.signature(known[kind]).parameters.get('img2') if kind in known else None
        if not has_truth and wants is not None and wants.default is inspect.Parameter.empty:
            raise CompSRTError(
                f'The data set `{dataset}` has no ground truth, with which `val.metrics.{metric}` ({kind}) compares: '
                'leave the metric out, take one without a reference such as `calculate_niqe`, or give '
                '`type: PairedImageDataset` and `dataroot_gt`.'
            )
