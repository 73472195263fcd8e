"""Captions of the figures, with the numbers that a reader needs beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compsrt_basicsr.study.analysis.report.labels import kind_label, listed, percent, tensor_label, transform_label
from compsrt_basicsr.study.analysis.report.panels import typical, usual_bits
from compsrt_basicsr.study.analysis.report.verdicts import LEVEL
from compsrt_basicsr.study.analysis.report.words import kinds
from compsrt_basicsr.study.analysis.tensors import distinct

CAPTIONS = 'captions.md'


def captions(analysis: Mapping[str, Any], names: set[str]) -> str:
    """A Markdown page with a caption for each figure.

    Args:
        analysis: what analysis.json holds.
        names: of the figures that were drawn.
    """
    makers = {
        'range_by_depth': _range,
        'gain_by_depth': _gain,
        'distributions': _distributions,
        'near_zero': _near_zero,
    }
    parts = [
        f'## {name}\n\n![{name}]({name}.png)\n\n{make(analysis)}\n' for name, make in makers.items() if name in names
    ]
    return '# Captions\n\n' + '\n'.join(parts)


def _subject(analysis: Mapping[str, Any]) -> str:
    counts = listed([f'{len(distinct(analysis["tensors"], kind))} {kind_label(kind)}' for kind in kinds(analysis)])
    data = analysis['data']
    pictures = f' on {data["patches"]} patches of {data["patch_size"]}×{data["patch_size"]} pixels' if data else ''
    return f'`{analysis["model"]["source"]}`, {counts}{pictures}'


def _first(analysis: Mapping[str, Any]) -> str:
    return transform_label(analysis['transforms'][1])


def _range(analysis: Mapping[str, Any]) -> str:
    return (
        f'Range of each quantized tensor (dots) without a transform and under the {_first(analysis)} transform, and '
        f'the median of each block (lines); logarithmic scale, no unit. {_subject(analysis)}.'
    )


def _gain(analysis: Mapping[str, Any]) -> str:
    others = [transform_label(name) for name in analysis['transforms'][1:]]
    return (
        f'Gain in SQNR at {usual_bits(analysis)} bits with DOBI bounds against no transform. Lines: median of each '
        f'block under {listed(others)}. Dots: single tensors under {others[0]}. Above zero the transform lowers the '
        f'quantization error. {_subject(analysis)}.'
    )


def _distributions(analysis: Mapping[str, Any]) -> str:
    chosen = [
        f'{kind_label(kind)}: '
        + listed([f'{tensor_label(tensor)} ({pick})' for pick, tensor in typical(analysis, kind)])
        for kind in kinds(analysis)
    ]
    return (
        f'Densities of values without a transform (grey) and of coefficients under the {_first(analysis)} transform '
        f'(line), on a logarithmic scale, for the tensors of largest, median and least gain in SQNR at '
        f'{usual_bits(analysis)} bits; the gain stands above each. {"; ".join(chosen)}. {_subject(analysis)}.'
    )


def _near_zero(analysis: Mapping[str, Any]) -> str:
    confidence = percent(analysis['tests'][0]['confidence'])
    return (
        f'Change of the share of values within ±ε against no transform, mean over tensors with its {confidence} '
        f'bootstrap interval; ε absolute (left) and in standard deviations of the tensor (right). Filled: more mass '
        f'near zero, with p ≤ {LEVEL:g} in Wilcoxon’s one-sided test after Holm over all {len(analysis["tests"])} '
        f'tests; open: not shown. {_subject(analysis)}.'
    )
