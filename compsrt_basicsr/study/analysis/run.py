"""One analysis from start to end."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from compsrt_basicsr.checkpoints.describe import architecture_line
from compsrt_basicsr.checkpoints.load import QUANTIZED, LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.patches import Patches
from compsrt_basicsr.quant.functional.transform import resolve_transform
from compsrt_basicsr.study.analysis import across
from compsrt_basicsr.study.analysis.capture import measure
from compsrt_basicsr.study.analysis.measures import plain
from compsrt_basicsr.study.analysis.quantized_tensors import (
    WEIGHT,
    QuantizedTensor,
    quantizable_copy,
    quantized_tensors,
)
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import EPS_ABS, EPS_REL, OUTLIER
from compsrt_basicsr.utils.progress import SILENT, Progress

SCHEMA = 1


def analyze(
    loaded: LoadedNetwork,
    settings: AnalysisSettings | None = None,
    data: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measures every tensor that is or would be quantized under each transform, and tests the claims about transforms.

    Args:
        loaded: a network in full precision, or a quantized one, which is analysed with its own weights and without
            rounding.
        settings: transforms, patches and samples.
        data: folder of LR images or BasicSR LMDB; None to analyse the weights alone.
        progress: shows the progress.

    Returns:
        The content of analysis.json.

    Raises:
        CompSRTError: if nothing in the network is quantized, or no image fits.
    """
    settings = settings or AnalysisSettings()
    if data is not None and settings.patch_size % loaded.multiple:
        raise CompSRTError(
            f'`--patch-size` {settings.patch_size} must be a multiple of {loaded.multiple}, the window of the model.'
        )
    network = quantizable_copy(loaded)
    chosen = [tensor for tensor in quantized_tensors(network) if data is not None or tensor.kind == WEIGHT]
    patches = None
    if data is not None:
        patches = Patches(data, settings.patches, settings.patch_size, loaded.channels, settings.seed)
    found = measure(network, chosen, patches, settings, progress)
    tensors = [_tensor(tensor, found[tensor.name]) for tensor in chosen]
    return plain(
        {
            'schema': SCHEMA,
            'model': {
                'source': loaded.source,
                'kind': loaded.kind,
                'architecture': architecture_line(loaded),
                'parameters': sum(parameter.numel() for parameter in network.parameters()),
                'scale': loaded.scale,
                'note': _note(loaded),
            },
            'data': None
            if data is None
            else {
                'source': str(data),
                'patches': settings.patches,
                'patch_size': settings.patch_size,
                'seed': settings.seed,
            },
            'settings': {
                **asdict(settings),
                'samples': settings.samples,
                'outlier': OUTLIER,
                'auto_is': {str(n): resolve_transform('auto', n) for n in sorted({tensor.order for tensor in chosen})},
            },
            'transforms': settings.transforms,
            'eps_abs': EPS_ABS,
            'eps_rel': EPS_REL,
            'tensors': tensors,
            'tests': across.paired_tests(tensors, settings),
            'mechanism': across.mechanism(tensors, settings),
        }
    )


def _tensor(tensor: QuantizedTensor, found: dict[str, Any] | str) -> dict[str, Any]:
    by_transform, skipped = ({}, found) if isinstance(found, str) else (found, None)
    return {
        'name': tensor.name,
        'kind': tensor.kind,
        'role': tensor.role,
        'depth': tensor.depth,
        'order': tensor.order,
        'count': 0 if skipped else by_transform['none']['count'],
        'same_as': tensor.same_as,
        'skipped': skipped,
        'by_transform': by_transform,
    }


def _note(loaded: LoadedNetwork) -> str | None:
    if loaded.kind != QUANTIZED:
        return None
    return 'The model is quantized: its weights are analysed as stored in the file, in a packed file as codes.'
