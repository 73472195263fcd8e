"""One analysis from beginning to end."""

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
from compsrt_basicsr.study.analysis.quantized_tensors import WEIGHT, Site, quantizable_copy, sites
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
    """Measures every tensor that is or would be quantized, under each transform, and tests what is claimed of them.

    Args:
        loaded: a network in full precision or quantized; the latter is analysed with the weights it has and without
            rounding.
        settings: transforms, patches and samples.
        data: folder of LR pictures or BasicSR LMDB; None: weights alone.
        progress: display of the work.

    Returns:
        What analysis.json holds.

    Raises:
        CompSRTError: nothing in the network is quantized, or there are no pictures that fit.
    """
    settings = settings or AnalysisSettings()
    if data is not None and settings.patch_size % loaded.multiple:
        raise CompSRTError(
            f'`--patch-size` {settings.patch_size} must be a multiple of {loaded.multiple}, the window of the model.'
        )
    network = quantizable_copy(loaded)
    chosen = [site for site in sites(network) if data is not None or site.kind == WEIGHT]
    patches = None
    if data is not None:
        patches = Patches(data, settings.patches, settings.patch_size, loaded.channels, settings.seed)
    found = measure(network, chosen, patches, settings, progress)
    tensors = [_tensor(site, found[site.name]) for site in chosen]
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
                'auto_is': {str(n): resolve_transform('auto', n) for n in sorted({site.order for site in chosen})},
            },
            'transforms': settings.transforms,
            'eps_abs': EPS_ABS,
            'eps_rel': EPS_REL,
            'tensors': tensors,
            'tests': across.paired_tests(tensors, settings),
            'mechanism': across.mechanism(tensors, settings),
        }
    )


def _tensor(site: Site, found: dict[str, Any] | str) -> dict[str, Any]:
    skipped = isinstance(found, str)
    return {
        'name': site.name,
        'kind': site.kind,
        'role': site.role,
        'depth': site.depth,
        'order': site.order,
        'count': 0 if skipped else found['none']['count'],
        'same_as': site.same_as,
        'skipped': found if skipped else None,
        'by_transform': {} if skipped else found,
    }


def _note(loaded: LoadedNetwork) -> str | None:
    if loaded.kind != QUANTIZED:
        return None
    return 'The model is quantized: its weights are analysed as the file gives them, which for a packed file are codes.'
