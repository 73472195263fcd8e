"""`PairedImageDataset`: errors that name the image."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from compsrt_basicsr.basicsr_compat.lmdb_store import check_lmdb_folder
from compsrt_basicsr.errors import CompSRTError

_SIDES = ('gt', 'lq')


def paired_paths_from_lmdb(
    original: Callable[..., list[Any]], folders: Sequence[str], keys: Sequence[str]
) -> list[Any]:
    """Checks both LMDBs, then lists the pairs as BasicSR does.

    Raises:
        CompSRTError: If an LMDB is missing or incomplete, or the two have different keys.
    """
    for folder in folders:
        if str(folder).endswith('.lmdb'):  # BasicSR's own message is clear for other names
            check_lmdb_folder(folder)
    try:
        return original(folders, keys)
    except ValueError as error:
        raise CompSRTError(f'The LMDBs `{folders[0]}` and `{folders[1]}` are no pair: {error}') from error


def get_item(original: Callable[[Any, int], dict[str, Any]], dataset: Any, index: int) -> dict[str, Any]:
    """Reads a pair as BasicSR does; looks for the broken image only when that fails.

    Raises:
        CompSRTError: If an image cannot be decoded, or the pair does not fit scale or patch size.
    """
    try:
        return original(dataset, index)
    except (AttributeError, TypeError, cv2.error) as error:
        culprit = _undecodable(dataset, index)
        if culprit is None:
            raise
        raise CompSRTError(f'{culprit} cannot be decoded as an image: replace it and try again.') from error
    except OSError as error:
        if not error.filename:
            raise
        raise CompSRTError(f'The image `{error.filename}` cannot be read: {error.strerror}.') from error
    except ValueError as error:
        name = dataset.paths[index].get('gt_path')
        text = ' '.join(str(part).strip() for part in error.args)
        raise CompSRTError(f'The pair `{name}` of `{dataset.gt_folder}` and `{dataset.lq_folder}`: {text}') from error


def _undecodable(dataset: Any, index: int) -> str | None:
    """Returns a name for the image of this pair that OpenCV cannot decode, or None."""
    if dataset.file_client is None:
        return None
    for side in _SIDES:
        name = dataset.paths[index][f'{side}_path']
        content = np.frombuffer(dataset.file_client.get(name, side), np.uint8)
        if content.size == 0 or cv2.imdecode(content, cv2.IMREAD_COLOR) is None:
            folder = dataset.gt_folder if side == 'gt' else dataset.lq_folder
            place = f' in `{folder}`' if not os.path.isabs(name) and not str(name).startswith(str(folder)) else ''
            return f'`{name}`{place}'
    return None
