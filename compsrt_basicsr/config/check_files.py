"""Checks of the files and folders that options name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import path as osp
from typing import Any

from compsrt_basicsr.config.run import NETWORKS
from compsrt_basicsr.errors import CompSRTError

ZOO = 'zoo://'


def file_errors(opt: Mapping[str, Any], find_model: Callable[[str], Any] | None = None) -> Iterator[str]:
    """Yields files and folders that do not exist, and LMDBs under the wrong name or backend.

    Args:
        opt: The options of a run.
        find_model: Raises CompSRTError for a `zoo://` name that no zoo has; None does not look.
    """
    datasets, path, calibration = (opt.get(key) for key in ('datasets', 'path', 'calibration'))
    if isinstance(datasets, Mapping):
        for key, section in datasets.items():
            if isinstance(section, Mapping):
                yield from _dataset_errors(section, f'datasets.{key}')
    if isinstance(path, Mapping):
        for network in NETWORKS:
            yield from _weight_errors(path.get(f'pretrain_{network}'), f'path.pretrain_{network}', find_model)
    if isinstance(calibration, Mapping):
        yield from _missing_file(calibration.get('file'), 'calibration.file')


def without_slash(folder: str) -> str:
    """Returns a path without slashes at its end, which shells add: BasicSR looks at the end of a name."""
    return folder.rstrip('/' + osp.sep) or folder


def _dataset_errors(section: Mapping[str, Any], where: str) -> Iterator[str]:
    backend = section.get('io_backend')
    kind = backend.get('type') if isinstance(backend, Mapping) else None
    for key in ('dataroot_gt', 'dataroot_lq'):
        root = section.get(key)
        if not isinstance(root, str):
            continue
        if not osp.isdir(osp.expanduser(root)):
            yield (
                f'`{where}.{key}`: `{root}` does not exist; check the path (it is relative to the working directory) '
                'or make LMDBs with `compsrt data prepare`.'
            )
        elif kind == 'lmdb' and not without_slash(root).endswith('.lmdb'):
            yield f'`{where}.{key}`: `{root}` must end in .lmdb, or `io_backend.type` must be `disk`.'
        elif kind == 'disk' and without_slash(root).endswith('.lmdb'):
            yield f'`{where}.{key}`: `{root}` is an LMDB, so `io_backend.type` must be `lmdb`.'
    yield from _missing_file(section.get('meta_info_file'), f'{where}.meta_info_file')


def _weight_errors(file: Any, where: str, find_model: Callable[[str], Any] | None) -> Iterator[str]:
    if not isinstance(file, str) or not file.startswith(ZOO):
        yield from _missing_file(file, where)
    elif find_model is not None:
        try:
            find_model(file)  # the download itself is left to the model
        except CompSRTError as error:
            yield f'`{where}`: {error}'


def _missing_file(file: Any, where: str) -> Iterator[str]:
    if isinstance(file, str) and not osp.isfile(osp.expanduser(file)):
        yield f'`{where}`: `{file}` does not exist; check the path.'
