"""Fill the pages of the study with the tables and numbers of the records in docs/results/.

    python scripts/make_results.py

It writes docs/results.md and docs/ablation.md. In docs/stages.md, findings.md, mambairv2.md, training.md and
upscaling.md it fills what stands between markers; tests compare the committed pages with it. The records come from
scripts/packaged_table.py (packaged_x2.json), benchmark_step.py (step.json), benchmark_mambairv2.py
(mambairv2_speed.json), benchmark_threads.py (threads.json), benchmark_end_to_end.py (end_to_end.json), and `compsrt
sweep` with options/sweeps/NAME_x2.yml or NAME.yml, whose files in runs/ go to NAME_sweep/.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmark_end_to_end import table as end_to_end_table
from benchmark_threads import table as threads_table
from findings_tables import (
    Records,
    codes_table,
    losses_table,
    methods_table,
    networks_table,
    parts_table,
    stages_table,
    transforms_table,
)
from markers import fill, fill_values
from ratio_table import ratio_table

from compsrt_basicsr.study.sweep.collect import read_folders, rows_of
from compsrt_basicsr.study.sweep.page import source_of, write_report

ROOT = Path(__file__).resolve().parents[1]
DOCS, RECORDS = ROOT / 'docs', ROOT / 'docs/results'
REPORTS = {  # page: title, folders of records, rows
    'results': ('Results', ('packaged_sweep', 'packaged_x3_x4_sweep'), ()),
    'ablation': ('Parts of compsrt', ('packaged_sweep', 'ablation_sweep', 'pruning_sweep'), ('compsrt*',)),
}


def report(page: str, out: Path, figures: bool = True) -> str:
    """Returns the report of some sweeps as a page of docs/; writes its tables and figures to `out`."""
    title, folders, methods = REPORTS[page]
    records, _ = read_folders([RECORDS / folder for folder in folders], methods)
    source = source_of([f'docs/results/{folder}' for folder in folders], methods)
    file = write_report(records, out, source=source, figures=figures)
    text = file.read_text(encoding='utf-8')
    file.unlink()
    return text.replace('# Results', f'# {title}', 1).replace('](figures/', f'](results/{out.name}/figures/')


def end_to_end() -> str:
    """Returns the table of a large photograph."""
    file = RECORDS / 'end_to_end.json'
    return end_to_end_table(json.loads(file.read_text())) if file.exists() else 'Not measured yet.'


def filled_pages() -> dict[Path, str]:
    """Returns the pages that people write, with tables and numbers filled in."""
    records = Records(RECORDS)
    transforms = rows_of(read_folders([RECORDS / 'transform_sweep'])[0])
    published, _ = read_folders([RECORDS / 'mambairv2_paper_sweep'])
    ours, _ = read_folders([RECORDS / 'packaged_sweep'], ['compsrt'])
    others, _ = read_folders([RECORDS / 'recipe_sweep'])
    linears, everything, scales = (
        methods_table(rows_of(read_folders([RECORDS / f'{name}_sweep'])[0]))
        for name in ('mambairv2_linears', 'mambairv2_all', 'packaged_x3_x4')
    )
    speed = json.loads((RECORDS / 'mambairv2_speed.json').read_text())
    tables = {
        DOCS / 'mambairv2.md': {
            'codes': codes_table(published),
            'linears': linears,
            'all': everything,
            'forward': ratio_table('network', speed['forward_seconds']),
            'step': ratio_table('step', speed['seconds'], speed['peak_bytes']),
        },
        DOCS / 'stages.md': {
            'stages': stages_table(records.stages),
            'step': ratio_table('step', records.step['seconds'], records.step['peak_bytes']),
        },
        DOCS / 'findings.md': {
            'losses': losses_table(records.rows),
            'scales': scales,
            'parts': parts_table(records.rows),
            'networks': networks_table([*ours, *others]),
            'transforms': transforms_table(transforms),
        },
        DOCS / 'training.md': {'threads': threads_table(json.loads((RECORDS / 'threads.json').read_text()))},
        DOCS / 'upscaling.md': {'end to end': end_to_end()},
        ROOT / 'README.md': {},
    }
    return {
        page: fill_values(fill(page.read_text(encoding='utf-8'), own), records.value) for page, own in tables.items()
    }


def main() -> None:
    for page, text in filled_pages().items():
        page.write_text(text, encoding='utf-8')
    for name in REPORTS:
        (DOCS / f'{name}.md').write_text(report(name, RECORDS / f'{name}_report'), encoding='utf-8')


if __name__ == '__main__':
    main()
