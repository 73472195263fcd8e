"""The one place where BasicSR 1.4.2 is patched; `PATCHES` lists what is replaced, by what, and why."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from compsrt_basicsr.basicsr_compat.torchvision_shim import provide_functional_tensor

_MARK = '_compsrt_patch'
_PACKAGE = __name__.partition('.')[0]


@dataclass(frozen=True)
class Patch:
    """One replacement inside BasicSR.

    Attributes:
        target: what is replaced, as `module:name` or `module:class.name`.
        replacement: the function that replaces it, as `module:name` below this package; imported when it is applied.
        defect: what is wrong with the original.
        kind: 'wrap' gives the original to the replacement as first argument, which calls it wherever it works;
            'replace' sets the replacement, unless another package has replaced the original already; 'add' sets a
            method that the class lacks.
    """

    target: str
    replacement: str
    defect: str
    kind: Literal['wrap', 'replace', 'add'] = 'wrap'


_PARSE = 'basicsr_compat.parse_options:parse_options'
_TWO_RUNS = 'two runs of one name write into one folder'
_LMDB = 'basicsr.utils.file_client:LmdbBackend'
_PREFETCH = 'basicsr.data.prefetch_dataloader:PrefetchGenerator'
_SWINIR = 'basicsr.archs.swinir_arch:SwinIR'
_BLOCK = 'basicsr.archs.swinir_arch:SwinTransformerBlock.forward'
_MODEL = 'basicsr.models.base_model:BaseModel'

# Besides these: the module torchvision.transforms.functional_tensor, gone since torchvision 0.17 (torchvision_shim.py).
PATCHES = (
    Patch('basicsr.train:parse_options', _PARSE, 'executes the command line; `1e-4` is text', 'replace'),
    Patch('basicsr.test:parse_options', _PARSE, 'executes the command line; `1e-4` is text', 'replace'),
    Patch('basicsr.train:parse_options', 'basicsr_compat.run_lock:parse_options', _TWO_RUNS),
    Patch('basicsr.test:parse_options', 'basicsr_compat.run_lock:parse_options', _TWO_RUNS),
    Patch('basicsr.train:train_pipeline', 'basicsr_compat.run_lock:run_pipeline', _TWO_RUNS),
    Patch('basicsr.test:test_pipeline', 'basicsr_compat.run_lock:run_pipeline', _TWO_RUNS),
    Patch(
        'basicsr.utils.misc:mkdir_and_rename',
        'basicsr_compat.run_lock:rename_folder',
        'two archives of one second get one name',
    ),
    Patch(
        'basicsr.train:mkdir_and_rename',
        'basicsr_compat.run_lock:rename_folder',
        'two archives of one second get one name',
    ),
    Patch('basicsr.train:copy_opt_file', 'config.option_file:copy_option_file', 'the file may have been archived away'),
    Patch(
        'basicsr.train:load_resume_state',
        'basicsr_compat.resume:load_resume_state',
        'needs CUDA; looks below the working directory',
        'replace',
    ),
    Patch(
        'basicsr.train:create_train_val_dataloader',
        'basicsr_compat.dataloaders:create_train_val_dataloader',
        'a resumed epoch starts over; CUDA prefetch without CUDA',
    ),
    Patch(
        'basicsr.utils.options:init_dist',
        'basicsr_compat.distributed:init_dist',
        'NCCL only; divides by the number of GPUs',
    ),
    Patch(f'{_MODEL}.model_to_device', 'basicsr_compat.distributed:model_to_device', 'DDP wants a CUDA device'),
    Patch(f'{_MODEL}.get_optimizer', 'basicsr_compat.optimizers:get_optimizer', 'Adam only'),
    Patch(f'{_LMDB}.__init__', 'basicsr_compat.lmdb_store:init_backend', 'an LMDB opens once in a process only'),
    Patch(f'{_LMDB}.get', 'basicsr_compat.lmdb_store:backend_get', 'an absent key gives None'),
    Patch(
        f'{_LMDB}.__getstate__',
        'basicsr_compat.lmdb_store:backend_getstate',
        'a data set that was used cannot be pickled',
        'add',
    ),
    Patch(
        f'{_LMDB}.__setstate__',
        'basicsr_compat.lmdb_store:backend_setstate',
        'a data set that was used cannot be pickled',
        'add',
    ),
    *(
        Patch(f'{module}:build_dataset', 'basicsr_compat.datasets:build_dataset', 'unfit images go unnoticed')
        for module in ('basicsr.train', 'basicsr.test', 'basicsr.data')
    ),
    *(
        Patch(f'{module}:build_model', 'basicsr_compat.stages:build_model', 'wrong options give bare tracebacks')
        for module in ('basicsr.train', 'basicsr.test')
    ),
    Patch(f'{_MODEL}.load_network', 'basicsr_compat.stages:load_network', 'a bad checkpoint gives a bare traceback'),
    Patch(f'{_MODEL}.validation', 'basicsr_compat.stages:validation', 'a metric that fails names no image'),
    *(
        Patch(f'{module}:imwrite', 'basicsr_compat.image_file:imwrite', 'a full disk leaves half an image', 'replace')
        for module in ('basicsr.utils', 'basicsr.models.sr_model', 'basicsr.models.video_base_model')
    ),
    Patch(f'{_PREFETCH}.run', 'basicsr_compat.prefetch:run', 'an error in the thread hangs the training'),
    Patch(f'{_PREFETCH}.__next__', 'basicsr_compat.prefetch:next_item', 'an error in the thread hangs the training'),
)


# Of the one module of BasicSR that inference needs, which may be imported without the rest.
SWINIR_PATCHES = (
    Patch(f'{_SWINIR}.__init__', 'basicsr_compat.swinir_real_x2:init', '`nearest+conv` at x4 only'),
    Patch(f'{_SWINIR}.forward', 'basicsr_compat.swinir_real_x2:forward', '`nearest+conv` at x4 only'),
    Patch(f'{_SWINIR}.__init__', 'basicsr_compat.swinir_device:init', 'the mean stays on the CPU'),
    Patch(_BLOCK, 'basicsr_compat.swinir_device:block_forward', 'each block makes a mask and copies it to the GPU'),
)


def import_basicsr(execute: Callable[[], object] = lambda: importlib.import_module('basicsr')) -> None:
    """Imports BasicSR, with what it needs to be imported at all, and applies every patch.

    Args:
        execute: imports BasicSR.
    """
    provide_functional_tensor()
    execute()
    _attach_submodules()
    apply()


def apply() -> None:
    """Applies every patch; a second call changes nothing."""
    train = importlib.import_module('basicsr.train')
    if _MARK in vars(train):
        return
    for patch in PATCHES:
        _apply(patch)
    setattr(train, _MARK, True)


def apply_to_swinir() -> None:
    """Applies the patches of SwinIR, whose module must have been imported; a second call changes nothing."""
    module = sys.modules['basicsr.archs.swinir_arch']
    if _MARK in vars(module):
        return
    for patch in SWINIR_PATCHES:
        _apply(patch)
    setattr(module, _MARK, True)


def _attach_submodules() -> None:
    """Makes modules that were imported before their package (see `basicsr_compat.swinir`) attributes of it."""
    for name, module in list(sys.modules.items()):
        parent, _, child = name.rpartition('.')
        if name.startswith('basicsr.') and child not in vars(sys.modules[parent]):
            setattr(sys.modules[parent], child, module)


def _apply(patch: Patch) -> None:
    module, _, path = patch.target.partition(':')
    *classes, name = path.split('.')
    owner = functools.reduce(getattr, classes, importlib.import_module(module))
    module, _, function = patch.replacement.partition(':')
    replacement = getattr(importlib.import_module(f'{_PACKAGE}.{module}'), function)
    if patch.kind == 'wrap':
        _wrap(owner, name, replacement)
    elif patch.kind == 'add' or str(getattr(getattr(owner, name), '__module__', '')).startswith('basicsr.'):
        setattr(owner, name, replacement)


def _wrap(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Sets an attribute of a module or class to `replacement(original, …)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def patched(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, patched)
