"""What the file of a model stores: an account of packed files, checkpoints and full-precision files."""

from __future__ import annotations

import os

from compsrt_basicsr.checkpoints.find import find_file
from compsrt_basicsr.packing.container import is_packed
from compsrt_basicsr.packing.size import Account, measure_packed


def measure_size(model: str | os.PathLike[str]) -> Account:
    """Takes the account of a model's file. That of a packed file needs no torch.

    Args:
        model: a path, a name of the zoo, or `zoo://NAME`.

    Raises:
        CompSRTError: if the file cannot be read, or no network can be built from it.
    """
    file = find_file(model)
    if is_packed(file):
        return measure_packed(file)
    from compsrt_basicsr.checkpoints.unpacked_size import measure_unpacked

    return measure_unpacked(file)
