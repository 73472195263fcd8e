"""Write docs/stages.md, docs/results.md, docs/ablation.md and the tables of docs/findings.md from docs/results/.

python scripts/make_results.py

Records are made by scripts/house_table.py (house_x2.json), scripts/benchmark_step.py (step.json), and by `compsrt grid`
with options/grids/house_x2.yml, ablation_x2.yml, pruning_x2.yml and transform_x2.yml (the files in house_grid/ and so
on); tests compare the committed pages with what this writes.
"""

from __future__ import annotations

import json
import statistics
from itertools import product
from pathlib import Path
from typing import Any

import findings_tables
from markers import fill
from tabulate import tabulate

from compsrt_basicsr.study.sweep.collect import read_folders
from compsrt_basicsr.study.sweep.page import source_of, write_report

DOCS = Path(__file__).resolve().parents[1] / 'docs'
STAGES = ('minmax', 'calibrated', 'distilled')
RANGES = ('strict', 'paper')

PAGE = """\
# Stages and cost

Made by `python scripts/make_results.py` from the records in `docs/results/`; do not edit.

## SwinIR-light ×2, house teacher

PSNR-Y (dB) on Set5: border of 2 pixels, Y channel, symmetric padding. Teacher: `zoo://swinir_light_x2_house`, which the
student starts from. Distillation: {iterations} iterations of batch {batch}, LR {lr_patch}×{lr_patch}, seed {seed};
calibration on {calibration_patches} LR patches. Full precision: **{full:.2f} dB**. "Levels" is the largest number of
different codes that any of the 384 quantizers used on the whole of Set5; "over" counts the quantizers that used more
than 2^b. Both ranges quantize the attention as published, calibrate without refitting, freeze the weights, and have the
feature loss; the strict rows train at a rate of 3e-2. They tell the code ranges apart, and are not the option files of
today: the method `compsrt` of those, which does more, is in `docs/results.md`. Pruned rows need `--pruned`.
These weights are a stand-in for the official ones, so no published figure stands beside them.

Command: `{house_command}`

{house}

{reading}

## One training step

SwinIR-light ×2, batch {step_batch}, LR {step_patch}×{step_patch}, {threads} threads, steps by turns in one run; the
ratio is the median over {rounds} rounds. Full precision: teacher forward, student forward, backward through all
weights, Adam. `compsrt`: the same at 4 bits, quantizers and weights. Strict and paper: the published step at 4 bits,
quantizers alone, with feature distillation.

Command: `{step_command}`

{step}

Calibration of the 384 quantizers on the same pictures: {calibration:.2f} s beyond the forward pass (best of 3).
"""


def house_rows(rows: dict[str, Any]) -> list[list[Any]]:
    """One line for each bit width and range: PSNR by stage, loss against full precision, levels; None: not measured.

    Lines with 40% of the weights pruned stand only where they were measured.
    """
    full = rows['full_precision']['psnr']
    table = []
    for bits, code_range, pruned in product((4, 3, 2), RANGES, ('', '_p40')):
        stages = {stage: rows.get(f'{code_range}_w{bits}a{bits}{pruned}_{stage}') for stage in STAGES}
        if pruned and not any(stages.values()):
            continue
        name = f'{code_range}, 40% pruned' if pruned else code_range
        line = [bits, name, *(metrics and metrics['psnr'] for metrics in stages.values())]
        if distilled := stages['distilled']:
            levels = [f'{int(distilled["levels_max"])} of {2**bits}', int(distilled['levels_over'])]
            line += [distilled['psnr'] - full, *levels]
        table.append(line)
    return table


def step_rows(record: dict[str, Any]) -> list[list[Any]]:
    """One line for each variant: seconds, ratio with its range, memory and its ratio."""
    base = record['seconds']['full precision']
    table = []
    for variant, seconds in record['seconds'].items():
        ratios = [a / b for a, b in zip(seconds, base)]
        memory = record['peak_bytes'][variant]
        spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
        median = statistics.median(ratios)
        share = memory / record['peak_bytes']['full precision']
        table.append([variant, statistics.median(seconds), median, spread, memory / 1e6, share])
    return table


def reading(rows: dict[str, Any]) -> str:
    """What the table says, in words made from its numbers."""
    gains, over = [], []
    for bits in (4, 3, 2):
        before, after = (rows.get(f'strict_w{bits}a{bits}_{stage}') for stage in ('calibrated', 'distilled'))
        if before and after:
            gains.append(f'{after["psnr"] - before["psnr"]:+.2f} dB at {bits} bits')
        if paper := rows.get(f'paper_w{bits}a{bits}_distilled'):
            widest = int(paper['levels_max'])
            over.append(f'{int(paper["levels_over"])} of 384 at {bits} bits (widest: {widest} levels)')
    text = f'Distillation changes the calibrated strict network by {", ".join(gains)}.'
    if over:
        text += (
            f' In paper range the quantizers that leave their bits are {", ".join(over)}: those rows are not '
            'results at that bit width.'
        )
    return text


def render(records: Path) -> str:
    """The page, from house_x2.json and step.json in a folder."""
    house, step = (json.loads((records / name).read_text()) for name in ('house_x2.json', 'step.json'))
    house_headers = ['bits', 'range', 'MinMax', 'calibrated', 'distilled', 'against FP', 'levels', 'over']
    step_headers = ['step', 'median s', 'ratio', 'range of ratios', 'peak MB', 'memory ratio']
    calibration = step['calibration_seconds']
    return PAGE.format(
        **house['protocol'],
        full=house['rows']['full_precision']['psnr'],
        house_command=house['command'],
        house=tabulate(
            house_rows(house['rows']), house_headers, tablefmt='github', floatfmt='.2f', missingval='not measured'
        ),
        reading=reading(house['rows']),
        step_batch=step['batch'],
        step_patch=step['lr_patch'],
        threads=step['threads'],
        rounds=len(step['seconds']['strict']),
        step_command=step['command'],
        step=tabulate(step_rows(step), step_headers, tablefmt='github', floatfmt=('', '.2f', '.2f', '', '.0f', '.2f')),
        calibration=min(calibration['calibration']) - min(calibration['forward']),
    )


REPORTS = {  # page: title, folders of records, rows
    'results': ('Results', ('house_grid',), ()),
    'ablation': ('Parts of compsrt', ('house_grid', 'ablation_grid', 'pruning_grid'), ('compsrt*',)),
}


def comparison(page: str, out: Path, figures: bool = True) -> str:
    """The report of grids' records as a page of docs/; its tables and figures go to `out`."""
    title, folders, methods = REPORTS[page]
    records, faults = read_folders([DOCS / 'results' / folder for folder in folders], methods)
    if faults:
        raise SystemExit(' '.join(faults))
    source = source_of([f'docs/results/{folder}' for folder in folders], methods)
    report = write_report(records, out, source=source, figures=figures)
    text = report.read_text(encoding='utf-8')
    report.unlink()
    return text.replace('# Results', f'# {title}', 1).replace('](figures/', f'](results/{out.name}/figures/')


def findings(page: str) -> str:
    """docs/findings.md with the tables of the records."""
    house, transforms = (read_folders([DOCS / 'results' / f'{name}_grid'])[0] for name in ('house', 'transform'))
    tables = {'losses': findings_tables.losses(house), 'transforms': findings_tables.transforms(transforms)}
    return fill(page, tables)


def main() -> None:
    (DOCS / 'stages.md').write_text(render(DOCS / 'results'), encoding='utf-8')
    page = DOCS / 'findings.md'
    page.write_text(findings(page.read_text(encoding='utf-8')), encoding='utf-8')
    for page in REPORTS:
        text = comparison(page, DOCS / 'results' / f'{page}_report')
        (DOCS / f'{page}.md').write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
