"""Data sets of BasicSR, of every type: checked when they are built, and with errors that name data set and image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from basicsr.data.single_image_dataset import SingleImageDataset
from torch.utils.data import Dataset, IterableDataset

from compsrt_basicsr.basicsr_compat.error_messages import stage
from compsrt_basicsr.basicsr_compat.error_rules import missing_file
from compsrt_basicsr.basicsr_compat.folder_pairs import folder_problem, lmdb_problem
from compsrt_basicsr.basicsr_compat.lmdb_store import check_lmdb_folder
from compsrt_basicsr.basicsr_compat.metrics import check_kinds, check_sizes
from compsrt_basicsr.basicsr_compat.pair_sizes import ImageFiles, checked_sizes, misfit, undecodable
from compsrt_basicsr.errors import CompSRTError

_ROOTS = ('dataroot_gt', 'dataroot_lq')


class CheckedDataset(Dataset[Any]):
    """A data set of BasicSR that names itself and the image when an item cannot be read; else it is as it was.

    Args:
        dataset: The data set.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.shown: str | None = None  # name of the last item that was read
        self.sizes: list[tuple[str, int, int]] = []  # of a set for validation: name, height and width of each result

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or 'dataset' not in vars(self):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        names = ImageFiles(self.dataset).names(index) if isinstance(index, int) else {}
        self.shown = next(iter(names.values()), None)
        with stage(self._culprit(names), lambda _: self._undecodable(index), self._unreadable):
            item = self.dataset[index]
        self._check_scale(item)
        return item

    def _culprit(self, names: dict[str, str]) -> str:
        what = 'pair' if len(names) > 1 else 'image'
        item = f'{what} `{next(iter(names.values()))}`' if names else 'an item'
        return f'The {item} of the data set `{self.dataset.opt.get("name")}`'

    def _undecodable(self, index: Any) -> str | None:
        try:
            name = undecodable(self.dataset, index) if isinstance(index, int) else None
        except OSError:  # the file is gone, which is another message
            return None
        return f'{name} cannot be decoded as an image: replace it and try again.' if name else None

    def _unreadable(self, error: Exception) -> str | None:
        if isinstance(error, OSError) and error.filename:
            return f'the image `{error.filename}` cannot be read: {error.strerror}.'
        return None

    def _check_scale(self, item: Any) -> None:
        """Raises CompSRTError unless a ground truth for validation is `scale` times as large as its LR image."""
        opt = self.dataset.opt
        if opt.get('phase') == 'train' or not isinstance(opt.get('scale'), int) or not isinstance(item, dict):
            return
        shapes = [getattr(item.get(side), 'shape', ())[-2:] for side in ('gt', 'lq')]
        gt, lq = (tuple(map(int, shape)) for shape in shapes)
        if len(gt) == len(lq) == 2 and gt != tuple(opt['scale'] * side for side in lq):
            raise CompSRTError(
                f'The pair `{self.shown or item.get("lq_path")}` of the data set `{opt.get("name")}`: '
                f'{misfit(gt, lq, opt["scale"])}'
            )


def build_dataset(original: Callable[[Any], Any], dataset_opt: MutableMapping[str, Any]) -> Any:
    """Builds a data set as BasicSR does and checks what it will read; for validation, the sizes of all images too.

    Args:
        original: BasicSR's function.
        dataset_opt: The options of the data set, with its `phase`.

    Raises:
        CompSRTError: If an option is missing, a folder, LMDB or listed file is missing or empty, or images do not fit
            together. The message names the data set.
    """
    with stage(
        f'The data set `{dataset_opt.get("name")}`',
        lambda error: folder_problem(dataset_opt) if isinstance(error, AssertionError) else None,
        lambda error: lmdb_problem(dataset_opt) if isinstance(error, ValueError) else None,
        lambda error: _malformed_list(error, dataset_opt),
        missing_file,
    ):
        for root in _ROOTS:
            if str(dataset_opt.get(root) or '').endswith('.lmdb'):
                check_lmdb_folder(dataset_opt[root])
        dataset = original(dataset_opt)
    if isinstance(dataset, IterableDataset):
        return dataset
    if len(dataset) == 0:
        raise CompSRTError(f'The data set `{dataset_opt.get("name")}` has no images: check {_source(dataset_opt)}.')
    checked = CheckedDataset(dataset)
    if dataset_opt.get('phase') == 'train':
        _check_listed(dataset)
    else:
        checked.sizes = list(checked_sizes(dataset))
    return checked


def check_metrics(dataset: Any, metrics: Mapping[str, Mapping[str, Any]] | None) -> None:
    """Makes sure that a data set has what the metrics of a validation need, before the first image is measured.

    Args:
        dataset: What `build_dataset` returned.
        metrics: The section `val.metrics`.

    Raises:
        CompSRTError: As `metrics.check_kinds` and `metrics.check_sizes`.
    """
    if metrics and isinstance(dataset, CheckedDataset):
        name = str(dataset.opt.get('name'))
        check_kinds(metrics, name, has_truth=not isinstance(dataset.dataset, SingleImageDataset))
        check_sizes(metrics, name, dataset.sizes)


def _check_listed(dataset: Any) -> None:
    """Raises CompSRTError if a file of images names one that does not exist, which training would find out late."""
    listed = dataset.opt.get('meta_info_file') or dataset.opt.get('meta_info')
    if not listed or (dataset.opt.get('io_backend') or {}).get('type') != 'disk':
        return
    files = ImageFiles(dataset)
    for index in range(len(dataset)):
        for name in files.names(index).values():
            if not os.path.isfile(name):
                raise CompSRTError(
                    f'The data set `{dataset.opt.get("name")}`: the image `{name}`, listed in `{listed}`, does not '
                    'exist: check the list and the folders.'
                )


def _malformed_list(error: Exception, opt: Mapping[str, Any]) -> str | None:
    """Recognises a line of RealESRGANPairedDataset's list that does not hold two names."""
    if isinstance(error, ValueError) and 'values to unpack' in str(error) and opt.get('meta_info'):
        return f'each line of `{opt["meta_info"]}` must hold two names, as in `gt/0001.png, lq/0001.png`.'
    return None


def _source(opt: Mapping[str, Any]) -> str:
    """Returns the options that say where the images of a data set are, with their values."""
    keys = (*_ROOTS, 'meta_info_file', 'meta_info')
    return ' and '.join(f'`{key}: {opt[key]}`' for key in keys if opt.get(key)) or 'its options'
