"""A small analysis as `compsrt analyze` writes it, with test outcomes chosen by the caller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TRANSFORMS = ('none', 'auto', 'dct')
EPS_ABS, EPS_REL, SIZES, BITS = (0.01, 0.05, 0.2), (0.1, 0.5), (200, 5000), (2, 4)
NORMALITY = ('shapiro', 'dagostino', 'anderson', 'jarque_bera')
BINS = 16
Key = tuple[str, str, str, float | None]


def small_analysis(
    outcomes: Mapping[Key, Mapping[str, Any]] | None = None,
    kinds: tuple[str, ...] = ('weight', 'activation'),
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Four blocks with two weights and two activations each. No claim is supported unless `outcomes` says so.

    Args:
        outcomes: fields of single tests, by kind, transform, measure and eps, sample size or bits.
        kinds: kinds of the tensors.
        skipped: names of further tensors, with the reason why each was left out.
    """
    tensors = [
        _tensor(kind, role, depth)
        for depth in range(4)
        for kind, role in (('weight', 'fc1'), ('weight', 'proj'), ('activation', 'fc1'), ('activation', 'matmul_v'))
        if kind in kinds
    ]
    if 'activation' in kinds:
        tensors.append({**_tensor('activation', 'q', 3), 'name': 'blocks.3.q', 'same_as': 'blocks.3.fc1'})
    for name, sentence in (skipped or {}).items():
        about = {'kind': 'weight', 'role': 'v', 'depth': 0, 'order': 12, 'count': 0, 'same_as': None}
        tensors.append({'name': name, **about, 'skipped': sentence, 'by_transform': {}})
    return {
        'schema': 1,
        'model': {
            'source': 'net.pth',
            'kind': 'full precision',
            'architecture': 'SwinIR: embed_dim 12',
            'parameters': 12345,
            'scale': 2,
            'note': None,
        },
        'data': {'source': 'images', 'patches': 4, 'patch_size': 16, 'seed': 0},
        'settings': {
            'transforms': list(TRANSFORMS),
            'patches': 4,
            'patch_size': 16,
            'seed': 0,
            'sample': SIZES[-1],
            'samples': list(SIZES),
            'outlier': 3.0,
            'auto_is': {'10': 'conference', '12': 'hadamard'},
        },
        'transforms': list(TRANSFORMS),
        'eps_abs': list(EPS_ABS),
        'eps_rel': list(EPS_REL),
        'tensors': tensors,
        'tests': [_test(kind, *rest, outcomes or {}) for kind in kinds for rest in _tested()],
        'mechanism': [row for kind in kinds for row in _correlations(kind)],
    }


def _tested() -> list[tuple[str, str, float | None]]:
    measures: list[tuple[str, float | None]] = [
        (name, None) for name in ('range', 'kurtosis', 'crest', 'outliers', 'incoherence')
    ]
    for name, sweep in (('near_abs', EPS_ABS), ('near_rel', EPS_REL), *((n, SIZES) for n in NORMALITY), ('sqnr', BITS)):
        measures += [(name, at) for at in sweep]
    return [(transform, *measure) for transform in TRANSFORMS[1:] for measure in measures]


def _test(
    kind: str, transform: str, measure: str, at: float | None, outcomes: Mapping[Key, Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        'kind': kind,
        'measure': measure,
        'at': at,
        'transform': transform,
        'alternative': 'greater' if measure in ('near_abs', 'near_rel', 'shapiro', 'sqnr') else 'less',
        'share': 0.5,
        'n': 8,
        'mean': 0.001,
        'low': -0.002,
        'high': 0.003,
        'confidence': 0.95,
        'd_z': 0.1,
        'wilcoxon_p': 0.4,
        'sign_p': 0.5,
        'smallest_p': 1e-12,
        'holm_p': 1.0,
        'holm_sign_p': 1.0,
        **outcomes.get((kind, transform, measure, at), {}),
    }


def _correlations(kind: str) -> list[dict[str, Any]]:
    found = []
    for transform in TRANSFORMS[1:]:
        for bits in BITS:
            for predictor, at, given in (
                ('range', None, []),
                ('range', None, ['near_abs', 'kurtosis']),
                ('near_abs', 0.05, []),
                ('near_abs', 0.05, ['range', 'kurtosis']),
            ):
                about = {'kind': kind, 'transform': transform, 'predictor': predictor, 'at': at, 'gain': 'sqnr'}
                outcome = {'bits': bits, 'n': 8, 'rho': 0.1, 'low': -0.4, 'high': 0.6, 'p': 0.3}
                found.append({**about, **outcome, 'given': given})
    return found


def _tensor(kind: str, role: str, depth: int) -> dict[str, Any]:
    size = (0.4 if kind == 'weight' else 6.0) / (1 + depth)
    entries = {name: _measures(size * (1 - 0.1 * place), place, depth) for place, name in enumerate(TRANSFORMS)}
    about = {'name': f'blocks.{depth}.{role}.{kind}', 'kind': kind, 'role': role, 'depth': depth, 'order': 12}
    return {**about, 'count': 3000, 'same_as': None, 'skipped': None, 'by_transform': entries}


def _measures(spread: float, place: int, depth: int) -> dict[str, Any]:
    """A normal histogram of some spread, with numbers that differ between transforms and depths."""
    counts = [round(1000 * math.exp(-(((i - (BINS - 1) / 2) / 3) ** 2))) for i in range(BINS)]
    tests = {name: {'stat': 0.9 + 0.01 * place, 'p': 0.01} for name in NORMALITY}
    return {
        'count': 3000,
        'min': -spread / 2,
        'max': spread / 2,
        'range': spread,
        'mean': 0.0,
        'std': spread / 6,
        'skewness': 0.0,
        'kurtosis': 1.0 - 0.2 * place,
        'crest': 3.0,
        'outliers': 0.001,
        'near_abs': [min(1.0, eps * 2 / spread) for eps in EPS_ABS],
        'near_rel': [0.08, 0.38],
        **tests,
        'smaller_samples': {str(size): tests for size in SIZES[:-1]},
        'incoherence': 3.1,
        'quant': {str(bits): {'mse': 0.1 / bits, 'sqnr': 6.0 * bits + 0.3 * place * (1 + depth)} for bits in BITS},
        'histogram': {'edges': [-spread / 2, spread / 2], 'counts': counts},
    }
