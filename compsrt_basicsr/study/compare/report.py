"""Tables and JSON of a comparison."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tabulate import tabulate

from compsrt_basicsr.study.compare.regions import Region
from compsrt_basicsr.study.compare.results import Comparison, Result, Scores, ratio
from compsrt_basicsr.study.compare.sharpness import Sharpness, ring_frequencies

SCHEMA = 2  # 1 had `picture` in place of `image`
ORIGINAL = 'HR'


def whole_table(comparison: Comparison) -> str:
    """PSNR, SSIM and sharpness of the whole image, a row for each result and one for the original."""
    teacher = comparison.teacher
    references = {ORIGINAL: comparison.sharpness} | ({'teacher': teacher.sharpness} if teacher else {})
    rows = [
        [result.label, *_scores(result.whole), *_sharpness_cells(result.sharpness, references)]
        for result in comparison.results
    ]
    rows.append([ORIGINAL, '–', '–', *_sharpness_cells(comparison.sharpness, references)])
    headers = ['', 'PSNR-Y (dB)', 'SSIM-Y']
    for measure in ('gradient energy', f'share above {comparison.cutoff:.3g}'):
        headers += [measure, *(f'of {name}' for name in references)]
    return _table(rows, headers)


def details_table(comparison: Comparison) -> str:
    """PSNR and SSIM of each region, a row for each result."""
    rows = [
        [result.label, *(cell for scores in result.details for cell in _scores(scores))]
        for result in comparison.results
    ]
    names = [region_name(number) for number in range(len(comparison.regions))]
    return _table(rows, ['', *(head for name in names for head in (f'{name}: PSNR-Y (dB)', f'{name}: SSIM-Y'))])


def region_name(number: int) -> str:
    """Returns the name of a region: A, B, ... Z, A1, B1, ..."""
    turn, letter = divmod(number, 26)
    return chr(ord('A') + letter) + (str(turn) if turn else '')


def to_json(comparison: Comparison, about: dict[str, Any]) -> dict[str, Any]:
    """Returns all numbers as plain data; infinite and undefined ones are None.

    Args:
        comparison: the results.
        about: more to record, such as versions.
    """
    teacher = comparison.teacher
    references = {'hr': comparison.sharpness, 'teacher': teacher.sharpness if teacher else None}
    height, width = comparison.original.shape[:2]
    return {
        'schema': SCHEMA,
        **about,
        'image': comparison.source,
        'height': height,
        'width': width,
        'lr': comparison.lr_source or 'made from the image by bicubic reduction',
        'scale': comparison.scale,
        'border': comparison.scale,
        'cutoff': comparison.cutoff,
        'frequencies': ring_frequencies().tolist(),
        'regions': [_region(number, region, comparison) for number, region in enumerate(comparison.regions)],
        'hr': {'sharpness': _sharpness(comparison.sharpness, references)},
        'results': [_result(result, references) for result in comparison.results],
    }


def _region(number: int, region: Region, comparison: Comparison) -> dict[str, Any]:
    place = {'x': region.x, 'y': region.y, 'width': region.width, 'height': region.height}
    return {'name': region_name(number), **place, 'found': comparison.found}


def _result(result: Result, references: dict[str, Sharpness | None]) -> dict[str, Any]:
    return {
        'label': result.label,
        'role': result.role,
        'model': result.source,
        'execution': result.execution,
        **_score_data(result.whole),
        'regions': [_score_data(scores) for scores in result.details],
        'sharpness': _sharpness(result.sharpness, references),
    }


def _score_data(scores: Scores) -> dict[str, float | None]:
    return {'psnr_y': _finite(scores.psnr), 'ssim_y': _finite(scores.ssim)}


def _sharpness(own: Sharpness, references: dict[str, Sharpness | None]) -> dict[str, Any]:
    data: dict[str, Any] = {
        'gradient_energy': own.gradient_energy,
        'high_frequency_share': own.high_frequency_share,
        'spectrum': [_finite(value) for value in own.spectrum],
    }
    for name, other in references.items():
        data[f'of_{name}'] = other and {
            'gradient_energy': ratio(own.gradient_energy, other.gradient_energy),
            'high_frequency_share': ratio(own.high_frequency_share, other.high_frequency_share),
        }
    return data


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _scores(scores: Scores) -> tuple[str, str]:
    return 'equal' if math.isinf(scores.psnr) else f'{scores.psnr:.2f}', f'{scores.ssim:.4f}'


def _sharpness_cells(own: Sharpness, references: dict[str, Sharpness]) -> list[str]:
    cells = [f'{own.gradient_energy:.1f}']
    cells += [_percent(ratio(own.gradient_energy, other.gradient_energy)) for other in references.values()]
    cells.append(_percent(own.high_frequency_share, 2))
    cells += [_percent(ratio(own.high_frequency_share, other.high_frequency_share)) for other in references.values()]
    return cells


def _percent(value: float | None, digits: int = 1) -> str:
    return '–' if value is None else f'{100 * value:.{digits}f}%'


def _table(rows: list[list[str]], headers: list[str]) -> str:
    align = ['left'] + ['right'] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt='github', disable_numparse=True, colalign=align)
