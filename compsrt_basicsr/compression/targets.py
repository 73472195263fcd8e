"""Files for engines: the packed one, ONNX, OpenVINO."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError, shown, suggestion

PACKED, ONNX, OPENVINO = 'packed', 'onnx', 'openvino'
_SUFFIXES = {ONNX: '.onnx', OPENVINO: '.xml'}
_GENERIC = 'compsrt_basicsr.onnx.generic'
_PACKAGES = {ONNX: ('onnx', 'onnxruntime'), OPENVINO: ('openvino', 'onnx')}
_OF_OURS = ('SwinIR', 'EDSR')


def parse_targets(text: str) -> tuple[str, ...]:
    """Returns the targets of a list such as `packed,onnx`; the packed file is always made.

    Raises:
        CompSRTError: if there is no such target, or a package for it is missing.
    """
    known = (PACKED, *_SUFFIXES)
    asked = [word.strip().lower() for word in text.split(',') if word.strip()]
    for word in asked:
        if word not in known:
            raise CompSRTError(
                f'There is no target {shown(word)}: give some of {", ".join(known)}.{suggestion(word, known)}'
            )
        for package in _PACKAGES.get(word, ()):
            if importlib.util.find_spec(package) is None:
                raise CompSRTError(f'`--target {word}` needs the package {package}: `python -m pip install {package}`.')
    return tuple(word for word in known if word in (*asked, PACKED))


def check_targets(targets: tuple[str, ...], loaded: LoadedNetwork) -> None:
    """Checks before any work that the targets can be made of a network.

    Raises:
        CompSRTError: if this version has no export of it.
    """
    for target in targets:
        if target != PACKED and (reason := getattr(loaded.network, 'onnx_obstacle', None)):
            raise CompSRTError(f'`--target {target}` is not possible for {loaded.record["arch"]}: {reason}.')
        if target != PACKED and importlib.util.find_spec(_GENERIC) is None:
            arch = loaded.record['arch']
            if target == OPENVINO or arch not in _OF_OURS:
                raise CompSRTError(f'`--target {target}` is not known for {arch}: leave it out.')


def export(loaded: LoadedNetwork, target: str, stem: Path) -> Path:
    """Writes the file of one target beside the packed one; it has been compared with torch.

    Args:
        loaded: the packed network.
        target: 'onnx' or 'openvino'.
        stem: the file without ending.

    Raises:
        CompSRTError: if it cannot be exported, or its results differ from torch's.
    """
    file = stem.with_name(stem.name + _SUFFIXES[target])
    if importlib.util.find_spec(_GENERIC) is not None:
        generic: Callable[[Any, Path, str], Any] = importlib.import_module(_GENERIC).export_generic
        generic(loaded, file, target)
    else:
        _export_ours(loaded, file)
    return file


def _export_ours(loaded: LoadedNetwork, file: Path) -> None:
    from compsrt_basicsr.archs.rebuild import geometry
    from compsrt_basicsr.inference.execution import FAKE, choose_execution
    from compsrt_basicsr.onnx import check
    from compsrt_basicsr.onnx.model import to_onnx
    from compsrt_basicsr.utils.atomic_write import atomic_path

    choose_execution(loaded, FAKE)
    shape = geometry(loaded.record)
    with atomic_path(file) as temporary:
        temporary.write_bytes(to_onnx(loaded.network, loaded.record).SerializeToString())
        samples = check.synthetic_samples(shape, loaded.record['args'].get('img_size', 48))
        found = check.compare(loaded.network, shape, check.open_session(temporary), samples)
        check.check_agreement(found, check.ROUNDED_LEAST)
