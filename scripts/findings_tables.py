"""The numbers and tables of docs/findings.md and docs/stages.md, from the records in docs/results/."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from functools import cached_property
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

from execution_tables import leads
from tabulate import tabulate

from compsrt_basicsr.study.sweep.collect import Row, read_folders, rows_of
from compsrt_basicsr.study.sweep.paired_comparison import Comparison, compare_methods

OURS = 'compsrt'
BITS = ('4', '3', '2')
SETS = ('Set5', 'Set14', 'B100')
SWEEPS = ('packaged_sweep', 'ablation_sweep', 'pruning_sweep', 'budget_sweep', 'transform_sweep')


class Records:
    """The records of a folder, and the values that pages quote from them.

    A page names a value by a kind and its arguments, such as `loss 4 2dquant`: see the methods `value_of_*`. A method
    stands last, because its name may contain spaces.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of all sweeps of the packaged teacher."""
        return rows_of(read_folders([self.folder / name for name in SWEEPS])[0])

    @cached_property
    def stages(self) -> dict[str, Any]:
        """Metrics on Set5 by stage, of `packaged_table.py`."""
        return json.loads((self.folder / 'packaged_x2.json').read_text())['rows']

    @cached_property
    def step(self) -> dict[str, Any]:
        """Times and memory of a training step, of `benchmark_step.py`."""
        return json.loads((self.folder / 'step.json').read_text())

    def value(self, key: str) -> str:
        """Returns the value of a key.

        Raises:
            SystemExit: if there is no such kind of value.
        """
        kind, _, arguments = key.partition(' ')
        method = getattr(self, f'value_of_{kind}', None)
        if method is None:
            raise SystemExit(f'`{key}`: there is no value `{kind}` in the records.')
        return method(*arguments.split(maxsplit=max(len(signature(method).parameters) - 1, 0)))

    def value_of_psnr(self, bits: str, method: str) -> str:
        """PSNR on Set5."""
        return f'{psnr(self.rows, method, bits):.2f}'

    def value_of_widths(self, method: str) -> str:
        """PSNR on Set5 at 4, 3 and 2 bits."""
        return _listed([psnr(self.rows, method, bits) for bits in BITS])

    def value_of_sets(self, bits: str, method: str) -> str:
        """PSNR on Set5, Set14 and B100."""
        return _listed([psnr(self.rows, method, bits, dataset) for dataset in SETS])

    def value_of_loss(self, bits: str, method: str) -> str:
        """Loss against full precision on Set5."""
        return f'{loss(self.rows, method, bits):.2f}'

    def value_of_losses(self, method: str) -> str:
        """Loss against full precision on Set5 at 4, 3 and 2 bits."""
        return _listed([loss(self.rows, method, bits) for bits in BITS])

    def value_of_behind(self, bits: str, method: str) -> str:
        """How far a method is behind `compsrt`, or a variant behind its method; 95% intervals."""
        base = method.split(', ')[0]
        return _difference(_comparison(self.rows, method, bits, OURS if base == method else base), '.3f', ' dB')

    def value_of_ahead(self, bits: str, methods: str) -> str:
        """How far the first of two methods, `one over other`, is ahead of the other; 95% intervals."""
        one, other = methods.split(' over ')
        return _difference(_comparison(self.rows, other, bits, one), '.3f', ' dB')

    def value_of_stage_losses(self, code_range: str) -> str:
        """Loss of a code range after distillation at 4, 3 and 2 bits."""
        full = self.stages['full_precision']['psnr']
        return _listed([full - self._distilled(code_range, bits)['psnr'] for bits in BITS])

    def value_of_stage_gain(self, bits: str) -> str:
        """What distillation adds to the calibrated network, strict range."""
        before = self.stages[f'strict_w{bits}a{bits}_calibrated']['psnr']
        return f'{self._distilled("strict", bits)["psnr"] - before:.2f}'

    def value_of_codes(self, bits: str) -> str:
        """Largest number of codes in a quantizer, paper range."""
        return f'{int(self._distilled("paper", bits)["levels_max"]):,}'

    def value_of_over(self, bits: str) -> str:
        """Number of quantizers with more than 2^b codes, paper range."""
        return f'{int(self._distilled("paper", bits)["levels_over"])}'

    def value_of_full_precision(self) -> str:
        """PSNR of the teacher on Set5."""
        return f'{self.stages["full_precision"]["psnr"]:.2f}'

    def value_of_calibration_seconds(self) -> str:
        """Time of a calibration beyond the forward pass."""
        seconds = self.step['calibration_seconds']
        return f'{min(seconds["calibration"]) - min(seconds["forward"]):.2f}'

    def value_of_reconstruct_seconds(self) -> str:
        """Time of the calibration of `compsrt`."""
        return f'{min(self.step["calibration_seconds"]["reconstruct"]):.1f}'

    def value_of_lead(self, over: str, record: str = 'execution') -> str:
        """How many times as fast integer codes are as the fastest rival (`rivals`), or a mode such as `fp32`.

        Records are those of `benchmark_execution.py`, one for each processor.
        """
        return leads(json.loads((self.folder / f'{record}.json').read_text()), over)

    def _distilled(self, code_range: str, bits: str) -> dict[str, float]:
        return self.stages[f'{code_range}_w{bits}a{bits}_distilled']


def losses_table(rows: Sequence[Row]) -> str:
    """Returns what each method loses, and how far `compsrt` is ahead; a line for each plain method, compsrt last."""
    rows = [row for row in rows if row.is_plain]
    names = dict.fromkeys(row.name for row in rows if not row.is_teacher and row.name != OURS)
    lines = []
    for name in (*names, OURS):
        own = {row.bits: row for row in rows if row.name == name}
        found = [_comparison(rows, name, bits) if bits in own and name != OURS else None for bits in BITS]
        lines.append(
            [
                f'`{name}`' + ' \\*' * any(row.exceeds_bits for row in own.values()),
                '/'.join(dict.fromkeys(str(len(own[bits].runs)) for bits in BITS if bits in own)),
                *(f'{loss(rows, name, bits):.2f}' if bits in own else '–' for bits in BITS),
                *(_difference(comparison, '+.3f') if comparison else '–' for comparison in found),
            ]
        )
    headers = ['method', 'seeds', *(f'loss at {b} bits' for b in BITS), *(f'`{OURS}` ahead at {b} bits' for b in BITS)]
    return tabulate(lines, headers, tablefmt='github', disable_numparse=True)


def methods_table(rows: Sequence[Row]) -> str:
    """Returns PSNR on each test set, a line for each scale, bit width and method; beside it the loss on the first."""
    full = {row.scale: row for row in rows if row.is_teacher}
    sets = [name for name in SETS if all(name in row.sets for row in rows)]
    lines = []
    for row in rows:
        means = [statistics.fmean(row.means('psnr', name)) for name in sets]
        lost = (
            ''
            if row.is_teacher or row.scale not in full
            else f'{statistics.fmean(full[row.scale].means("psnr", sets[0])) - means[0]:.2f}'
        )
        levels = '' if row.levels_max is None else f'{row.levels_max:,}'
        lines.append([f'×{row.scale}', row.bits, f'`{row.name}`', *(f'{mean:.2f}' for mean in means), lost, levels])
    headers = ['scale', 'bits', 'method', *sets, f'loss on {sets[0]}', 'most levels']
    return tabulate(lines, headers, tablefmt='github', disable_numparse=True)


def parts_table(rows: Sequence[Row], method: str = OURS) -> str:
    """Returns what a change of one part of a method costs, a line for each part that was changed, after one for none.

    Each bit width has the PSNR on Set5, and how far the changed method is behind over the images of all sets.
    """
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.name.startswith(f'{method}, part='):
            found.setdefault(row.name, {})[row.bits] = row
    widths = [bits for bits in BITS if any(bits in own for own in found.values())]
    lines = [['nothing', *(text for bits in widths for text in (f'{psnr(rows, method, bits):.2f}', ''))]]
    for name, own in found.items():
        line = [f'`{name.partition("part=")[2]}`']
        for bits in widths:
            behind = _difference(_comparison(rows, name, bits, method), '.3f') if bits in own else '–'
            line += [f'{psnr(rows, name, bits):.2f}' if bits in own else '–', behind]
        lines.append(line)
    headers = ['part', *(text for bits in widths for text in (f'Set5 at {bits} bits', f'behind at {bits} bits'))]
    return tabulate(lines, headers, tablefmt='github', disable_numparse=True)


def networks_table(records: Sequence[dict[str, Any]]) -> str:
    """Returns what one recipe loses on several networks, a line for each network and bit width.

    Args:
        records: runs with one method, and those of their teachers; a network is named by its teacher.
    """
    lines = []
    for teacher in dict.fromkeys(record['protocol']['teacher'] for record in records):
        rows = rows_of([record for record in records if record['protocol']['teacher'] == teacher])
        (full,) = (row for row in rows if row.is_teacher)
        for row in rows:
            means = [statistics.fmean(row.means('psnr', name)) for name in SETS[:2]]
            lost = [statistics.fmean(full.means('psnr', name)) - mean for name, mean in zip(SETS, means)]
            losses = [''] * 2 if row.is_teacher else [f'{value:.2f}' for value in lost]
            lines.append([f'`{teacher}`', row.bits, *(f'{mean:.2f}' for mean in means), *losses])
    headers = ['network', 'bits', *SETS[:2], *(f'loss on {name}' for name in SETS[:2])]
    return tabulate(lines, headers, tablefmt='github', disable_numparse=True)


def transforms_table(rows: Sequence[Row]) -> str:
    """Returns PSNR on Set5 of calibrated networks, a line for each transform."""
    rows = [row for row in rows if not row.is_teacher]
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in rows:
        axes = row.runs[0]['axes']
        found.setdefault(axes['transform'], {})[row.bits, axes['calibration']] = psnr(rows, row.name, row.bits)
    columns = [(bits, how) for bits in dict.fromkeys(row.bits for row in rows) for how in ('plain', 'refitted')]
    order = [name for name in ('none', 'hadamard', 'blocks', 'random', 'dct', 'padded') if name in found]
    lines = [[f'`{name}`', *(found[name].get(column) for column in columns)] for name in order]
    headers = ['transform', *(f'{bits} bits, {how}' for bits, how in columns)]
    return tabulate(lines, headers, tablefmt='github', floatfmt='.2f', missingval='–')


def stages_table(stages: dict[str, Any]) -> str:
    """Returns PSNR by stage for each bit width and code range; lines of pruned networks only if they were measured."""
    full = stages['full_precision']['psnr']
    lines = []
    for bits, code_range, pruned in product(BITS, ('strict', 'paper'), ('', '_p40')):
        name = f'{code_range}_w{bits}a{bits}{pruned}'
        found = [stages.get(f'{name}_{stage}') for stage in ('minmax', 'calibrated', 'distilled')]
        if pruned and not any(found):
            continue
        line = [bits, f'{code_range}, 40% pruned' if pruned else code_range, *(m and m['psnr'] for m in found)]
        if distilled := found[-1]:
            codes = f'{int(distilled["levels_max"]):,} of {2 ** int(bits)}'
            line += [distilled['psnr'] - full, codes, int(distilled['levels_over'])]
        lines.append(line)
    headers = ['bits', 'range', 'MinMax', 'calibrated', 'distilled', 'against FP', 'levels', 'over']
    return tabulate(lines, headers, tablefmt='github', floatfmt='.2f', missingval='not measured')


def codes_table(records: Sequence[dict[str, Any]]) -> str:
    """Returns PSNR on Set5 and the codes in use, a line for each bit width and number of iterations."""
    lines = []
    for record in records:
        if record['quant'] is not None:
            bits, found = record['quant']['weight_bits'], record['results']['Set5']
            over = f'{int(found["levels_over"])} of {found["quantizers"]}'
            codes = f'{int(found["levels_max"]):,} of {2**bits}'
            lines.append([bits, record['protocol']['iterations'], found['psnr'], codes, over])
    headers = ['bits', 'iterations', 'PSNR-Y', 'most codes', 'quantizers beyond their bits']
    lines.sort(key=lambda line: (-line[0], line[1]))
    return tabulate(lines, headers, tablefmt='github', floatfmt='.2f')


def loss(rows: Sequence[Row], method: str, bits: str, dataset: str = 'Set5') -> float:
    """Returns PSNR of full precision minus PSNR of a method, dB."""
    return psnr(rows, 'full_precision', '32', dataset) - psnr(rows, method, bits, dataset)


def psnr(rows: Sequence[Row], method: str, bits: str, dataset: str = 'Set5') -> float:
    """Returns the PSNR of a method on a set, mean over seeds, dB."""
    return statistics.fmean(_row(rows, method, bits).means('psnr', dataset))


def _comparison(rows: Sequence[Row], method: str, bits: str, base: str = OURS) -> Comparison:
    """Compares `base` with a method in PSNR."""
    (found,) = compare_methods([_row(rows, base, bits), _row(rows, method, bits)], base, 'psnr')
    return found


def _difference(comparison: Comparison, form: str, unit: str = '') -> str:
    """Returns the mean difference with its interval over images and, if there are seeds to compare, over these."""
    found, seeds = comparison.images, comparison.by_seed
    over_seeds = f'; seeds {seeds.low:.3f} to {seeds.high:.3f}' if seeds else ''
    return f'{found.mean:{form}}{unit} ({found.low:.3f} to {found.high:.3f}{over_seeds})'


def _row(rows: Sequence[Row], method: str, bits: str) -> Row:
    return next(row for row in rows if (row.name, row.bits) == (method, bits))


def _listed(values: Sequence[float]) -> str:
    *first, last = [f'{value:.2f}' for value in values]
    return f'{", ".join(first)} and {last}'
