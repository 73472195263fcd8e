"""The section `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from compsrt_basicsr.config.base import Options, Section
from compsrt_basicsr.config.types import Count, PositiveCount, PositiveNumber

_PAIRED = 'PairedImageDataset'


class IoBackend(Options):
    """The section `io_backend`."""

    type: Literal['disk', 'lmdb', 'memcached'] = Field(description='Where the images are; `lmdb` is the fastest.')
    db_paths: tuple[str, ...] | None = Field(None, description='LMDBs; for data sets of other packages.')
    client_keys: tuple[str, ...] | None = Field(None, description='Their names; for data sets of other packages.')
    readonly: bool = Field(True, description='Open an LMDB for reading only.')
    lock: bool = Field(False, description='Lock an LMDB.')
    readahead: bool = Field(False, description='Let the system read ahead in an LMDB.')
    server_list_cfg: str | None = Field(None, description='Server list of memcached.')
    client_cfg: str | None = Field(None, description='Client configuration of memcached.')
    sys_path: str | None = Field(None, description='Python path of memcached.')


class PairedDataset(Section):
    """A data set of HR and LR images."""

    name: str = Field(description='Name of the data set, for logs and results.')
    type: Literal['PairedImageDataset'] = Field(description='`PairedImageDataset`.')
    dataroot_gt: str = Field(description='Folder or LMDB of the HR images.')
    dataroot_lq: str = Field(description='Folder or LMDB of the LR images.')
    io_backend: IoBackend = Field(description='A section with `type`: `lmdb` or `disk`.')
    meta_info_file: str | None = Field(None, description='A file that lists the images to take; not with `lmdb`.')
    filename_tmpl: str = Field('{}', description='Template of the LR file names; not with `lmdb`.')
    gt_size: PositiveCount | None = Field(
        None,
        description='Side of the HR training patches, a multiple of `scale` times `window_size`; required in training.',
    )
    use_hflip: bool | None = Field(None, description='Flip patches at random; required in training.')
    use_rot: bool | None = Field(None, description='Rotate patches at random; required in training.')
    use_shuffle: Literal[True] = Field(True, description='Must be true: the order is always random in training.')
    num_worker_per_gpu: Count | None = Field(None, description='Worker processes of the loader; required in training.')
    batch_size_per_gpu: PositiveCount | None = Field(None, description='Patches of a batch; required in training.')
    dataset_enlarge_ratio: PositiveNumber = Field(1, description='How often an epoch passes through the data.')
    prefetch_mode: Literal['cpu', 'cuda'] | None = Field(None, description='Prefetch in a thread or on the GPU.')
    num_prefetch_queue: PositiveCount = Field(1, description='Batches that `prefetch_mode: cpu` keeps.')
    pin_memory: bool = Field(False, description='Pin the memory of batches; needed by `prefetch_mode: cuda`.')
    persistent_workers: bool = Field(False, description='Keep the workers between epochs.')
    mean: tuple[float, ...] | None = Field(None, description='Subtracted from the images; needs `std`.')
    std: tuple[float, ...] | None = Field(None, description='Divides the images; needs `mean`.')
    color: Literal['y'] | None = Field(
        None, description='`y` reads the luma channel alone, for a network with `in_chans: 1`.'
    )

    @model_validator(mode='after')
    def _check_loader(self) -> PairedDataset:
        if self.persistent_workers and self.num_worker_per_gpu == 0:
            raise ValueError('`persistent_workers` needs `num_worker_per_gpu` above 0.')
        return self


class OtherDataset(Section):
    """A data set of another registered type."""

    model_config = ConfigDict(extra='allow')

    name: str = Field(description='Name of the data set.')
    type: str = Field(description='Name of the registered data set.', json_schema_extra={'not': {'const': _PAIRED}})
    io_backend: IoBackend | None = Field(None, description='A section with `type`.')


def _kind(section: Any) -> str:
    name = section.get('type') if isinstance(section, Mapping) else getattr(section, 'type', None)
    return 'PairedDataset' if name == _PAIRED else 'OtherDataset'


Dataset = Annotated[
    Annotated[PairedDataset, Tag('PairedDataset')] | Annotated[OtherDataset, Tag('OtherDataset')],
    Discriminator(_kind),
]

REQUIRED_IN_TRAINING = ('batch_size_per_gpu', 'num_worker_per_gpu')
REQUIRED_OF_PAIRS = ('gt_size', 'use_hflip', 'use_rot')


def training_gaps(section: Mapping[str, Any]) -> Iterator[str]:
    """Yields the options that a training set must have and this one has not."""
    wanted = (*REQUIRED_OF_PAIRS, *REQUIRED_IN_TRAINING) if section.get('type') == _PAIRED else REQUIRED_IN_TRAINING
    return (name for name in wanted if section.get(name) is None)
