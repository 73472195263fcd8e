"""Checkpoints as BasicSR writes and reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.torch_io import atomic_save


def save_checkpoint(state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Saves a state dict as a `.pth` file with the one entry `params`, atomically.

    Args:
        state: the state dict.
        path: the file; its folder must exist.

    Raises:
        CompSRTError: if the file cannot be written or its name is that of another format.
    """
    check_checkpoint_name(path)
    atomic_save({'params': dict(state)}, path)


def check_checkpoint_name(path: str | os.PathLike[str]) -> None:
    """Checks the name of a checkpoint.

    Raises:
        CompSRTError: if readers would take the file for a safetensors file.
    """
    if Path(path).suffix == '.safetensors':
        raise CompSRTError(f'A checkpoint is not a safetensors file: call it `{Path(path).stem}.pth`.')
