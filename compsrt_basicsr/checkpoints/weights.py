"""From a path or a `zoo://` name to a state dict."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.catalog import SCHEME, find
from compsrt_basicsr.utils.progress import byte_bar
from compsrt_basicsr.utils.torch_io import read_checkpoint


def resolve(path: str | os.PathLike[str]) -> Path:
    """The file behind a path, or behind `zoo://NAME`, which is downloaded if it is not here yet.

    Raises:
        CompSRTError: no model of that name, or it is not to be had.
    """
    text = os.fspath(path)
    return find(text).fetch(byte_bar) if text.startswith(SCHEME) else Path(text).expanduser()


def read_weights(path: str | os.PathLike[str], param_key: str | None = 'params') -> dict[str, Tensor]:
    """Reads a state dict from a `.pth` or `.safetensors` file, or a `zoo://` name.

    Args:
        path: the file or name.
        param_key: entry of a `.pth` that holds the state dict: 'params', 'params_ema', or None for the file itself. A
            missing entry falls back to 'params', and to the file itself where that holds tensors.

    Returns:
        Tensors on the CPU; half precision is widened to float32.

    Raises:
        CompSRTError: the file is missing, damaged or holds no state dict.
    """
    file = resolve(path)
    if file.suffix == '.safetensors':
        if not file.is_file():
            raise CompSRTError(f'The weights `{file}` do not exist: check the path.')
        try:
            return {key: value.float() for key, value in load_file(file).items()}
        except (SafetensorError, OSError) as error:
            raise CompSRTError(
                f'The weights `{file}` are truncated or no safetensors file: copy them again.'
            ) from error
    loaded = read_checkpoint(file)
    for key in (param_key, 'params'):
        if key is not None and isinstance(loaded.get(key), dict):
            return loaded[key]
    if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
        return loaded
    raise CompSRTError(f'`{file}` has no weights under `{param_key}`; it has: {", ".join(map(str, loaded))}.')
