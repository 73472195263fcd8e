"""The strict check of the sections that name files: `datasets` and `path`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import path as osp
from typing import Any

from compsrt_basicsr.config import option_schema as schema
from compsrt_basicsr.config.option_rules import (
    Section,
    as_section,
    choice_faults,
    is_whole,
    join,
    missing_faults,
    section_faults,
)
from compsrt_basicsr.errors import CompSRTError

_ZOO = 'zoo://'


def dataset_faults(datasets: Section, is_train: bool, scale: Any) -> Iterator[str]:
    """Yields the faults of all data sets.

    Args:
        datasets: The section `datasets`.
        is_train: Training wants `train` and `val…`, testing `test…` or `val…`.
        scale: The run's scale.
    """
    allowed = ('train', 'val') if is_train else ('test', 'val')
    for key, section in datasets.items():
        where = f'datasets.{key}'
        phase = str(key).split('_')[0]
        if phase not in allowed:
            wanted = '`train`, `val` or `val_…`' if is_train else '`test`, `test_…`, `val` or `val_…`'
            yield f'`{where}`: when {"training" if is_train else "testing"} a data set must be called {wanted}.'
        elif not isinstance(section, Mapping):
            yield f'`{where}` must be a section of options.'
        else:
            yield from _one_dataset_faults(section, where, phase, scale)
    if is_train and 'train' not in datasets:
        yield '`datasets.train` is missing.'
    elif not datasets:
        yield '`datasets` is empty: add a section `test_1`.'


def _one_dataset_faults(section: Section, where: str, phase: str, scale: Any) -> Iterator[str]:
    from basicsr.utils.registry import DATASET_REGISTRY

    yield from missing_faults(section, schema.DATASET_REQUIRED, where)
    kind = section.get('type')
    if kind is not None:
        yield from choice_faults(kind, DATASET_REGISTRY.keys(), join(where, 'type'), 'a registered data set')
    if kind == 'PairedImageDataset':
        yield from section_faults(section, schema.DATASET, where)
        yield from missing_faults(section, schema.PAIRED_REQUIRED, where)
        if phase == 'train':
            yield from missing_faults(section, schema.PAIRED_TRAIN_REQUIRED, where)
    yield from _loader_faults(section, where, phase)
    yield from _root_faults(section, where)
    size = section.get('gt_size')
    if is_whole(size, 1) and is_whole(scale, 1) and size % scale:
        yield f'`{where}.gt_size` is {size}, which `scale` {scale} does not divide: take a multiple of {scale}.'


def _loader_faults(section: Section, where: str, phase: str) -> Iterator[str]:
    if phase == 'train':
        yield from missing_faults(section, schema.LOADER_REQUIRED, where)
    if section.get('prefetch_mode') == 'cuda' and phase == 'train' and section.get('pin_memory') is not True:
        yield f'`{where}.prefetch_mode: cuda` needs `pin_memory: true`.'
    if section.get('persistent_workers') is True:
        if phase != 'train':
            yield f'`{where}.persistent_workers` works for `datasets.train` only: BasicSR validates without workers.'
        elif section.get('num_worker_per_gpu') == 0:
            yield f'`{where}.persistent_workers` needs `num_worker_per_gpu` above 0.'


def _root_faults(section: Section, where: str) -> Iterator[str]:
    """Yields folders and files that do not exist, and LMDBs under the wrong name or backend."""
    backend = as_section(section.get('io_backend'))
    if isinstance(section.get('io_backend'), Mapping):
        yield from section_faults(backend, schema.IO_BACKEND, join(where, 'io_backend'))
        yield from missing_faults(backend, ('type',), join(where, 'io_backend'))
    for key in ('dataroot_gt', 'dataroot_lq'):
        root = section.get(key)
        if not isinstance(root, str):
            continue
        if not osp.isdir(osp.expanduser(root)):
            yield (
                f'`{where}.{key}`: `{root}` does not exist; check the path (it is relative to the working directory) '
                'or make LMDBs with `compsrt data prepare`.'
            )
        elif backend.get('type') == 'lmdb' and not root.endswith('.lmdb'):
            yield f'`{where}.{key}`: `{root}` must end in .lmdb, or `io_backend.type` must be `disk`.'
        elif backend.get('type') == 'disk' and root.endswith('.lmdb'):
            yield f'`{where}.{key}`: `{root}` is an LMDB, so `io_backend.type` must be `lmdb`.'
    meta = section.get('meta_info_file')
    if isinstance(meta, str) and not osp.isfile(meta):
        yield f'`{where}.meta_info_file`: `{meta}` does not exist.'


def path_faults(section: Section) -> Iterator[str]:
    """Yields unknown keys of `path` (BasicSR would make folders of them) and pretrained files that do not exist."""
    yield from section_faults(section, schema.PATH, 'path')
    for network in schema.NETWORKS:
        file = section.get(f'pretrain_{network}')
        if not isinstance(file, str):
            continue
        if file.startswith(_ZOO):
            yield from _zoo_faults(file, f'path.pretrain_{network}')
        elif not osp.isfile(osp.expanduser(file)):
            yield f'`path.pretrain_{network}`: `{file}` does not exist; check the path.'


def _zoo_faults(name: str, where: str) -> Iterator[str]:
    """Yields a name that no zoo has; the download itself is left to the model."""
    from compsrt_basicsr.hub.catalog import find

    try:
        find(name)
    except CompSRTError as error:
        yield f'`{where}`: {error}'
