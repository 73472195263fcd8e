"""Packages that only some commands need."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from compsrt_basicsr.errors import CompSRTError

# What the engines need; ONNX Runtime compares every file with torch.
ONNX_RUNTIME = ('onnx', 'onnxruntime')
OPENVINO = (*ONNX_RUNTIME, 'openvino')


def require(what: str, packages: Iterable[str], extra: str) -> None:
    """Checks that packages are installed, without importing them.

    Args:
        what: what needs them, as the user gave it, such as '--target onnx'.
        packages: names of modules.
        extra: of this package, which installs them all.

    Raises:
        CompSRTError: if one is missing.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise CompSRTError(
                f"`{what}` needs the package {package}: `python -m pip install 'compsrt_basicsr[{extra}]'`."
            )
