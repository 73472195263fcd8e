"""What transforms, tensors and measures are called, and how numbers are written, in the page and in the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRANSFORMS = {
    'none': 'no transform',
    'auto': 'exact Hadamard',
    'padded': 'padded Hadamard',
    'dct': 'DCT',
    'random': 'random orthogonal',
}
KINDS = {'weight': 'weights', 'activation': 'activations'}
MEASURES = {
    'range': 'range',
    'kurtosis': 'excess kurtosis',
    'crest': 'crest factor',
    'outliers': 'share of outliers',
    'incoherence': 'incoherence μ',
    'near_abs': 'share within ±ε',
    'near_rel': 'share within ±ε σ',
    'shapiro': 'Shapiro–Wilk W',
    'dagostino': 'D’Agostino K²',
    'anderson': 'Anderson–Darling A²',
    'jarque_bera': 'Jarque–Bera',
    'sqnr': 'SQNR (dB)',
}
NORMALITY = ('shapiro', 'dagostino', 'anderson', 'jarque_bera')
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def transform_label(name: str) -> str:
    """What a transform is called."""
    return TRANSFORMS.get(name, name)


def kind_label(name: str) -> str:
    """What tensors of a kind are called."""
    return KINDS.get(name, name)


def at_label(measure: str, at: float | None) -> str:
    """What a measure was taken at: eps, values in the sample, or bits."""
    if at is None:
        return ''
    if measure == 'near_abs':
        return f'ε = {at:g}'
    if measure == 'near_rel':
        return f'ε = {at:g} σ'
    return f'{at:g} bits' if measure == 'sqnr' else f'{at:,.0f} values'


def measure_label(measure: str, at: float | None = None) -> str:
    """What a measure is called, with what it was taken at."""
    name = MEASURES.get(measure, measure)
    return name if at is None else f'{name}, {at_label(measure, at)}'


def tensor_label(tensor: Mapping[str, Any]) -> str:
    """A tensor by its place, which is shorter than its name."""
    return f'block {tensor["depth"]}, {tensor["role"]} {tensor["kind"]}'


def number(value: float | None, digits: int = 3) -> str:
    """A number for readers: significant digits, a true minus sign, powers of ten from 10^5 and below 10^-4."""
    if value is None:
        return '–'
    if value == 0:
        return '0'
    mantissa, exponent = f'{value:.{digits - 1}e}'.split('e')
    power = int(exponent)
    if -4 <= power < 5:
        places = max(0, digits - 1 - power)
        text = f'{value:.{places}f}'
    else:
        text = f'{mantissa}×10{str(power).translate(_SUPERSCRIPTS)}'
    return text.replace('-', '−')


def probability(p: float | None) -> str:
    """A p-value after `p`, such as `= 0.012`."""
    if p is None:
        return 'unknown'
    if p < 1e-300:
        return '< 10⁻³⁰⁰'
    return f'= {p_number(p)}'


def p_number(p: float | None) -> str:
    """A p-value in two digits; 1 is written plainly."""
    return '1' if p == 1 else number(p, 2)


def interval(result: Mapping[str, Any], digits: int = 3) -> str:
    """A confidence interval in words; correlations, which state no confidence, have 95%."""
    low, high = (number(result[end], digits) for end in ('low', 'high'))
    return f'{percent(result.get("confidence", 0.95))} interval {low} to {high}'


def percent(share: float | None) -> str:
    """A share, 0 to 1, in percent."""
    return '–' if share is None else f'{100 * share:.0f}%'


def listed(parts: list[str], last: str = 'and') -> str:
    """Parts as one phrase."""
    return parts[0] if len(parts) == 1 else f'{", ".join(parts[:-1])} {last} {parts[-1]}'
