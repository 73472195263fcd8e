"""The one place where BasicSR 1.4.2 is patched.

| what is replaced                                | the defect                                     | replacement in   |
|-------------------------------------------------|------------------------------------------------|------------------|
| module torchvision.transforms.functional_tensor | gone since torchvision 0.17, still imported    | torchvision_shim |
| basicsr.train / basicsr.test .parse_options     | exec of the command line; `1e-4` is text       | parse_options    |
| basicsr.train.copy_opt_file                     | the file may have been archived away           | option_file      |
| basicsr.train.load_resume_state                 | needs CUDA; looks below the working directory  | resume           |
| basicsr.train.create_train_val_dataloader       | a resumed epoch starts over; CUDA prefetch     | dataloaders      |
| basicsr.utils.options.init_dist                 | NCCL only; divides by the number of GPUs       | distributed      |
| BaseModel.model_to_device                       | DDP wants a CUDA device                        | distributed      |
| BaseModel.get_optimizer                         | Adam only                                      | optimizers       |
| LmdbBackend.__init__                            | an LMDB cannot be opened twice in a process    | lmdb_store       |
| LmdbBackend.get                                 | an absent key gives None                       | lmdb_store       |
| LmdbBackend.__getstate__ / __setstate__ (new)   | a data set that was used cannot be pickled     | lmdb_store       |
| paired_image_dataset.paired_paths_from_lmdb     | a missing LMDB gives a bare traceback          | paired_data      |
| PairedImageDataset.__getitem__                  | a broken image gives a bare traceback          | paired_data      |
| PrefetchGenerator.run / .__next__               | an error in the thread hangs the training      | prefetch         |

Each replacement takes the original as its first argument and calls it wherever it works, except `parse_options`,
`load_resume_state`, `__getstate__` and `__setstate__`, which stand alone.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

from compsrt_basicsr.basicsr_compat.torchvision_shim import provide_functional_tensor

_MARK = '_compsrt_patch'


def import_basicsr(execute: Callable[[], object] = lambda: importlib.import_module('basicsr')) -> None:
    """Imports BasicSR, with what it needs to be imported at all, and applies every patch of the table.

    Args:
        execute: imports BasicSR.
    """
    provide_functional_tensor()
    execute()
    _attach_submodules()
    apply()


def apply() -> None:
    """Applies every patch of the table; a second call changes nothing."""
    train = importlib.import_module('basicsr.train')
    if _MARK in vars(train):
        return
    _patch_pipelines()
    _patch_distributed_and_model()
    _patch_data()
    setattr(train, _MARK, True)


def _attach_submodules() -> None:
    """Makes modules that were imported before their package (see `basicsr_compat.swinir`) attributes of it."""
    for name, module in list(sys.modules.items()):
        parent, _, child = name.rpartition('.')
        if name.startswith('basicsr.') and child not in vars(sys.modules[parent]):
            setattr(sys.modules[parent], child, module)


def _patch_pipelines() -> None:
    from compsrt_basicsr.basicsr_compat import dataloaders, resume
    from compsrt_basicsr.basicsr_compat import parse_options as options
    from compsrt_basicsr.config import option_file

    train, test = importlib.import_module('basicsr.train'), importlib.import_module('basicsr.test')
    _replace(train, 'parse_options', options.parse_options)
    _replace(test, 'parse_options', options.parse_options)
    _replace(train, 'load_resume_state', resume.load_resume_state)
    _wrap(train, 'copy_opt_file', option_file.copy_option_file)
    _wrap(train, 'create_train_val_dataloader', dataloaders.create_train_val_dataloader)


def _patch_distributed_and_model() -> None:
    from basicsr.models.base_model import BaseModel

    from compsrt_basicsr.basicsr_compat import distributed, optimizers

    _wrap(importlib.import_module('basicsr.utils.options'), 'init_dist', distributed.init_dist)
    _wrap(BaseModel, 'model_to_device', distributed.model_to_device)
    _wrap(BaseModel, 'get_optimizer', optimizers.get_optimizer)


def _patch_data() -> None:
    from basicsr.data import paired_image_dataset
    from basicsr.data.prefetch_dataloader import PrefetchGenerator
    from basicsr.utils.file_client import LmdbBackend

    from compsrt_basicsr.basicsr_compat import lmdb_store, paired_data, prefetch

    _wrap(LmdbBackend, '__init__', lmdb_store.init_backend)
    _wrap(LmdbBackend, 'get', lmdb_store.backend_get)
    LmdbBackend.__getstate__, LmdbBackend.__setstate__ = lmdb_store.backend_getstate, lmdb_store.backend_setstate
    _wrap(paired_image_dataset, 'paired_paths_from_lmdb', paired_data.paired_paths_from_lmdb)
    _wrap(paired_image_dataset.PairedImageDataset, '__getitem__', paired_data.get_item)
    _wrap(PrefetchGenerator, 'run', prefetch.run)
    _wrap(PrefetchGenerator, '__next__', prefetch.next_item)


def _replace(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Sets a function of a module, unless another package has replaced BasicSR's already."""
    if str(getattr(getattr(owner, name), '__module__', '')).startswith('basicsr.'):
        setattr(owner, name, replacement)


def _wrap(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Sets an attribute of a module or class to `replacement(original, …)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def patched(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, patched)
