"""Files for engines: the packed one, ONNX, OpenVINO."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError, shown, suggestion
from compsrt_basicsr.inference.timing import alternate_calls
from compsrt_basicsr.utils import packages

if TYPE_CHECKING:
    from compsrt_basicsr.onnx.generic import EngineFile, Target

PACKED, ONNX, OPENVINO = 'packed', 'onnx', 'openvino'
ENGINES = {ONNX: 'ONNX Runtime', OPENVINO: 'OpenVINO'}
_SUFFIXES = {ONNX: ('.onnx',), OPENVINO: ('.xml', '.bin')}
_NOISE = 1.05  # times the seconds in full precision
_PACKAGES = {ONNX: (packages.ONNX_RUNTIME, 'onnx'), OPENVINO: (packages.OPENVINO, 'engines')}  # with their extra


def parse_targets(text: str) -> tuple[str, ...]:
    """Returns the targets of a list such as `packed,onnx`; the packed file is always made.

    Raises:
        CompSRTError: if there is no such target, or a package for it is missing.
    """
    known = (PACKED, *ENGINES)
    asked = [word.strip().lower() for word in text.split(',') if word.strip()]
    for word in asked:
        if word not in known:
            raise CompSRTError(
                f'There is no target {shown(word)}: give some of {", ".join(known)}.{suggestion(word, known)}'
            )
        if word in _PACKAGES:
            packages.require(f'--target {word}', *_PACKAGES[word])
    return tuple(word for word in known if word in (*asked, PACKED))


def engines_of(targets: Sequence[str]) -> tuple[str, ...]:
    """Returns the targets that are files for engines."""
    return tuple(target for target in targets if target in ENGINES)


def check_targets(targets: tuple[str, ...], loaded: LoadedNetwork) -> None:
    """Checks before any work that the targets can be made of a network.

    Raises:
        CompSRTError: if the network says that they cannot, and why.
    """
    for target in engines_of(targets):
        if reason := getattr(loaded.network, 'onnx_obstacle', None):
            raise CompSRTError(f'`--target {target}` is not possible for {loaded.record["arch"]}: {reason}.')


def remove_files(stem: Path, targets: Sequence[str]) -> None:
    """Removes the files of targets, which another compression may have made."""
    for target in targets:
        for suffix in _SUFFIXES[target]:
            stem.with_name(stem.name + suffix).unlink(missing_ok=True)


def export(
    loaded: LoadedNetwork, target: str, stem: Path, full_precision: LoadedNetwork, side: int, rounds: int
) -> tuple[EngineFile, dict[str, Any]]:
    """Writes the file of one target beside the packed one; it has been compared with torch.

    Layers run in 8 bits where their grids allow it, unless the file then takes longer than full precision.

    Args:
        loaded: the packed network.
        target: 'onnx' or 'openvino'.
        stem: the file without ending.
        full_precision: the network that was compressed.
        side: pixels of the image that is timed.
        rounds: number of repetitions.

    Returns:
        The file, and what `engine_latency` says about it.

    Raises:
        CompSRTError: if it cannot be exported, or its results differ from torch's.
    """
    from compsrt_basicsr.onnx.generic import INT8, SUFFIXES, export_generic

    file = stem.with_name(stem.name + SUFFIXES[cast('Target', target)])
    made = export_generic(loaded, file, cast('Target', target))
    latency = engine_latency(made, full_precision, side, rounds)
    if made.kind == INT8 and latency['after'] > latency['before']:
        made = export_generic(loaded, file, cast('Target', target), int8=False)
        latency = engine_latency(made, full_precision, side, rounds)
    return made, latency


def engine_latency(made: EngineFile, full_precision: LoadedNetwork, side: int, rounds: int) -> dict[str, Any]:
    """Times a file alternately with the export of the same network in full precision.

    Args:
        made: the file.
        full_precision: the network.
        side: of the image in pixels.
        rounds: number of repetitions.

    Returns:
        What the report says about the file: median seconds `before` and `after`, whether it is `slower` by more than
        noise, engine, kind, layers in 8 bits.

    Raises:
        CompSRTError: if the network in full precision cannot be exported.
    """
    from compsrt_basicsr.onnx.generic import open_engine, open_unchecked
    from compsrt_basicsr.onnx.model import INPUT

    target = cast('Target', made.target)
    image = torch.rand(1, full_precision.channels, side, side).numpy()
    sessions = {'before': open_unchecked(full_precision, target), 'after': open_engine(made.file, target)}
    calls = {name: partial(session.run, None, {INPUT: image}) for name, session in sessions.items()}
    times = {name: statistics.median(seconds) for name, seconds in alternate_calls(calls, rounds).items()}
    about: dict[str, Any] = {
        'engine': ENGINES[target],
        'kind': made.kind,
        'int8_layers': made.int8_layers,
        'layers': made.layers,
    }
    return {**about, **times, 'slower': times['after'] > _NOISE * times['before']}
