"""The card of a model: what its entry and its runs recorded, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compsrt_basicsr.hub.entry import Entry

_LARGEST = 1e9  # of a number that is written out
# Title and format of each metric that runs record; others are shown as they are called.
_METRICS = {
    'psnr': ('PSNR (dB)', '.2f'),
    'ssim': ('SSIM', '.4f'),
    'levels_max': ('most levels used', '.0f'),
    'levels_over': ('quantizers over 2^b', '.0f'),
    'sparsity': ('pruned', '.1%'),
    'zeros': ('zero', '.1%'),
    'bits_paper': ("bits, paper's account", '.2f'),
    'bits_mask': ('bits with a mask', '.2f'),
    'bits_entropy': ('bits, entropy', '.2f'),
}


def render_card(entry: Entry, details: Mapping[str, Any] | None = None) -> str:
    """Renders a card as Markdown.

    Args:
        entry: the model.
        details: further rows of the first table, such as the number of parameters.
    """
    bits = (
        'full precision' if entry.weight_bits is None else f'weights {entry.weight_bits}, activations {entry.act_bits}'
    )
    rows = {
        'kind': entry.kind,
        'architecture': entry.architecture,
        'scale': f'×{entry.scale}',
        'bits': bits,
        'file': f'`{entry.file}`',
        'size': 'not known' if entry.size is None else f'{entry.size:,} bytes',
        'SHA-256': 'recorded at the first download' if entry.sha256 is None else f'`{entry.sha256}`',
        'address': ', '.join(entry.urls) or 'beside this card',
        'licence': entry.licence,
        'origin': entry.origin,
        **(details or {}),
    }
    parts = [f'# {entry.name}', f'Use it as `zoo://{entry.name}`.', _table(['', ''], rows.items())]
    if entry.notes:
        parts.append(entry.notes)
    if entry.quality:
        parts += ['## Quality', f'{entry.protocol or "The protocol was not stated"}.', quality_table(entry)]
    if entry.citation:
        parts += ['## Citation', entry.citation]
    return '\n\n'.join(parts) + '\n'


def quality_table(entry: Entry) -> str:
    """Renders the measured quality as a table with a row for each data set."""
    quality = entry.quality or {}
    metrics = list(dict.fromkeys(metric for values in quality.values() for metric in values))
    rows = [[name, *(_number(metric, values.get(metric)) for metric in metrics)] for name, values in quality.items()]
    return _table(['', *(_METRICS.get(metric, (metric, ''))[0] for metric in metrics)], rows)


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return '–'
    return format(value, _METRICS.get(metric, ('', '.4g'))[1] if abs(value) < _LARGEST else '.4g')


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    from tabulate import tabulate

    return tabulate(list(rows), headers, tablefmt='github', disable_numparse=True)
