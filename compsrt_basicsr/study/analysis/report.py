"""The report of an analysis: tables as Markdown, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.analysis.figures import CAPTIONS, write_figures
from compsrt_basicsr.study.analysis.tables import (
    BITS,
    LEVEL,
    correlations_table,
    gains_table,
    outcomes_table,
    skipped_tensors,
)
from compsrt_basicsr.study.analysis.tensors import distinct
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.text import counted
from compsrt_basicsr.version import __version__

REPORT, FIGURES = 'report.md', 'figures'
_SCHEMA = 1


def write_report(analysis: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes report.md and its figures as PNG and SVG. Without matplotlib a warning is logged and figures are left out.

    Args:
        analysis: the content of analysis.json.
        folder: gets `report.md` and `figures/`; created if it is missing.

    Returns:
        The files, the report first.

    Raises:
        CompSRTError: if the analysis has a schema that this version does not read.
        OSError: if a file could not be written.
    """
    if analysis.get('schema') != _SCHEMA:
        raise CompSRTError(
            f'The analysis has schema {analysis.get("schema")!r}, this version reads {_SCHEMA}: run `compsrt analyze`.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    figures: list[Path] = []
    if find_spec('matplotlib'):
        figures = write_figures(analysis, folder / FIGURES)
    else:
        logger.warning('The report has no figures: install matplotlib (`python -m pip install matplotlib`) for them.')
    write_text(folder / REPORT, _markdown(analysis, figures))
    return [folder / REPORT, *figures]


def _markdown(analysis: Mapping[str, Any], figures: list[Path]) -> str:
    parts = [f'# Analysis of `{analysis["model"]["source"]}`', _facts(analysis)]
    if analysis['tests']:
        parts += ['## Claims', _HOW.format(count=len(analysis['tests']), level=LEVEL), outcomes_table(analysis, True)]
        parts += [f'## Gain in SQNR at {BITS} bits (dB)', gains_table(analysis, 'github')]
    shown = [file for file in figures if file.suffix == '.png']
    if shown:
        parts += ['## Figures', *(f'![{f.stem}]({FIGURES}/{f.name})\n\n{CAPTIONS[f.stem]}' for f in shown)]
    if analysis['mechanism']:
        parts += [f'## Rank correlation with the gain at {BITS} bits', _HOW_RANKS, correlations_table(analysis)]
    if analysis['tests']:
        parts += ['## All tests', outcomes_table(analysis)]
    if skipped := skipped_tensors(analysis):
        parts += ['## Skipped tensors', '\n'.join(f'- {line}' for line in skipped)]
    return '\n\n'.join(parts) + '\n'


_HOW = """\
Each row compares a measure, tensor by tensor, with and without the transform. *mean change*, its bootstrap interval and
*d_z* (mean change / standard deviation) are positive if the measure changes as claimed; *change as claimed* is the
share of such tensors. *p* is of the one-sided Wilcoxon signed-rank test, *p (Holm)* is adjusted for all {count} tests.
*supported*: p (Holm) is at most {level:g} and the mean changes as claimed."""
_HOW_RANKS = """\
Spearman's ρ over the tensors between the change of a measure and the gain. It is positive if a larger fall of range or
kurtosis, or more mass near zero, goes with a larger gain. *given*: measures held fixed. *p* is one-sided, for ρ > 0,
and not adjusted."""


def _facts(analysis: Mapping[str, Any]) -> str:
    tensors, model, data, settings = (analysis[name] for name in ('tensors', 'model', 'data', 'settings'))
    side = settings['patch_size']
    analysed = sum(not tensor['skipped'] for tensor in tensors)
    rows = {
        'model': f'{model["source"]}, ×{model["scale"]}, {model["parameters"]:,} parameters, {model["kind"]}',
        'architecture': model['architecture'],
        'images': f'{counted(data["patches"], "patch", "patches")} of {side}×{side} pixels from {data["source"]}'
        if data
        else 'none',
        'tensors': f'{analysed} of {len(tensors)} analysed, {len(distinct(tensors))} different',
        'transforms': ', '.join(analysis['transforms']),
        'auto is': ', '.join(f'{name} at order {order}' for order, name in settings['auto_is'].items()),
        'sample for normality': f'{settings["sample"]:,} values of each tensor',
        'seed': settings['seed'],
        'note': model['note'],
        'version': __version__,
    }
    cells = [[name, value] for name, value in rows.items() if value is not None]
    return tabulate(cells, ['', ''], tablefmt='github', disable_numparse=True)
