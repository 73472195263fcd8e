"""The measured row beside the published one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.study.published import Cell, published_row
from compsrt_basicsr.study.reproduce.setting import Setting
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text


def render_row(setting: Setting, record: Mapping[str, Any]) -> str:
    """Returns the comparison as Markdown.

    Args:
        setting: the row.
        record: `results` by data set, `protocol`, and `changes`, the differences from the published experiment.
    """
    published = {} if setting.pruned else published_row('CompSRT', setting.scale, setting.bits)
    lines = [_cells(name, values, published.get(name)) for name, values in record['results'].items()]
    headers = ['', 'PSNR-Y (dB)', 'published', 'difference', 'SSIM-Y', 'published', 'most levels used', 'over']
    parts = [f'# {setting}', f'{record["protocol"]}.']
    parts += [f'Not the published experiment: {"; ".join(record["changes"])}.'] if record['changes'] else []
    parts.append(tabulate(lines, headers, tablefmt='github', disable_numparse=True, colalign=['left'] + ['right'] * 7))
    notes = [f'{name}: the published value is odd ({cell.note}).' for name, cell in published.items() if cell.note]
    if setting.pruned:
        notes.append('The published values of the pruned rows are not recorded here; see arXiv 2601.21069.')
    if any(values.get('levels_over') for values in record['results'].values()):
        notes.append(f'Not a {setting.bits}-bit result: quantizers used more than {2**setting.bits} levels.')
    return '\n\n'.join([*parts, *notes]) + '\n'


def _cells(name: str, values: Mapping[str, float], published: Cell | None) -> list[str]:
    return [
        name,
        f'{values["psnr"]:.2f}',
        f'{published.psnr:.2f}' if published else '–',
        f'{values["psnr"] - published.psnr:+.2f}' if published else '–',
        f'{values["ssim"]:.4f}',
        f'{published.ssim:.4f}' if published else '–',
        f'{values["levels_max"]:,.0f}' if 'levels_max' in values else '–',
        f'{values["levels_over"]:.0f}' if 'levels_over' in values else '–',
    ]


def write_row(folder: Path, setting: Setting, record: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes `row.json` and `row.md`."""
    data, page = folder / 'row.json', folder / 'row.md'
    write_text(data, json_text(record, indent=2))
    write_text(page, render_row(setting, record))
    return data, page
