"""From a weight file to a state dict; nothing in the file is executed."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from compsrt_basicsr.checkpoints.find import find_file
from compsrt_basicsr.checkpoints.unpack import unpacked_state
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.container import is_packed
from compsrt_basicsr.packing.packed import load_packed
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.torch_io import read_checkpoint


def read_state(model: str | os.PathLike[str], param_key: str | None = 'params') -> dict[str, Tensor]:
    """Reads the state dict of a model in any file that this package knows; packed files are unpacked.

    Args:
        model: a `.pth` or `.safetensors` file, a name of the zoo, or `zoo://NAME`.
        param_key: as for `read_weights`.

    Returns:
        Tensors on the CPU.

    Raises:
        CompSRTError: as `find_file`, `read_weights` and `unpacked_state`.
    """
    file = find_file(model)
    return unpacked_state(load_packed(file)) if is_packed(file) else read_weights(file, param_key)


def read_weights(file: Path, param_key: str | None = 'params') -> dict[str, Tensor]:
    """Reads the state dict of a `.pth` or `.safetensors` file that is not packed.

    Args:
        file: the file.
        param_key: entry of a `.pth` that holds the state dict: 'params', 'params_ema', or None for the file itself. A
            missing entry falls back to 'params', and to the file itself where that holds tensors.

    Returns:
        Tensors on the CPU; those of a `.safetensors` are float32, whatever precision the file has.

    Raises:
        CompSRTError: if the file is missing or damaged, or holds no state dict.
    """
    if file.suffix == '.safetensors':
        stored = read_safetensors(file)
        return {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}
    loaded = read_checkpoint(file)
    for key in (param_key, 'params'):
        if key is not None and isinstance(loaded.get(key), dict):
            return loaded[key]
    if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
        return loaded
    raise CompSRTError(f'`{file}` has no weights under `{param_key}`; it has: {", ".join(map(str, loaded))}.')


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Reads a `.safetensors` file as it is.

    Raises:
        CompSRTError: if the file is missing, truncated or of another format.
    """
    if not file.is_file():
        raise CompSRTError(f'The weights `{file}` do not exist: check the path.')
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(
            f'The weights `{file}` are truncated or are not a safetensors file: copy them again.'
        ) from error
