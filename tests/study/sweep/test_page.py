"""From records to tables, tests and figures."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sweep_records import record, teacher, write_records

from compsrt_basicsr.cli.report import report as report_command
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.catalog import find
from compsrt_basicsr.study.sweep.collect import read_runs, rows_of, select_methods
from compsrt_basicsr.study.sweep.figures import lowest_shown, pareto
from compsrt_basicsr.study.sweep.page import write_report
from compsrt_basicsr.study.sweep.paired_comparison import adjust_by_holm, compare_methods, pooled
from compsrt_basicsr.study.sweep.protocol_groups import protocol_groups
from compsrt_basicsr.study.sweep.published_comparison import published_cells
from compsrt_basicsr.study.sweep.tables import comparison_table, comparisons_csv

PSNR = {'minmax': 34.0, '2dquant': 35.0, 'compsrt': 36.0}


def records(**changes):
    trained = [
        record(method, bits, seed, psnr + bits / 2, **changes)
        for method, psnr in PSNR.items()
        for bits in (4, 2)
        for seed in (1, 2, 3)
    ]
    return [teacher(), *trained]


def report(folder: Path, found, **options) -> str:
    return write_report(found, folder / 'out', source='runs', figures=False, **options).read_text()


def read_csv(file: Path) -> list[dict[str, str]]:
    with open(file, newline='') as stream:
        return list(csv.DictReader(stream))


def test_rows_gather_seeds():
    rows = rows_of(records())
    assert [(row.bits, row.name, len(row.runs)) for row in rows] == [
        ('32', 'full_precision', 1),
        *((bits, method, 3) for bits in ('4', '2') for method in PSNR),
    ]
    assert rows[1].means('psnr', 'Set5') == [run['results']['Set5']['psnr'] for run in rows[1].runs]


def test_other_axes_stand_in_the_name():
    (row,) = rows_of([record('compsrt', 4, 1, 36.0, axes={'transform': 'dct'})])
    assert row.name == 'compsrt, transform=dct' and not row.is_plain and published_cells(row) == {}


def test_rows_can_be_chosen():
    """By the names that the tables show. Full precision stays, as the others are compared with it."""
    parts = [record('compsrt', 4, 1, 36.0 + i, axes={'part': part}) for i, part in enumerate(('a', 'b'))]
    found = [*records(), *parts]
    assert select_methods(found, ()) == found
    chosen = rows_of(select_methods(found, ('minmax', 'compsrt, part=*')))
    assert {row.name for row in chosen} == {'full_precision', 'minmax', 'compsrt, part=a', 'compsrt, part=b'}
    with pytest.raises(CompSRTError, match=r'`--method dobi` matches no run; there are: .*2dquant; compsrt; .*part=a'):
        select_methods(found, ('minmax', 'dobi'))


def test_several_folders_make_one_report(tmp_path: Path):
    write_records(tmp_path / 'methods', records())
    write_records(tmp_path / 'parts', [record('compsrt', 4, 1, 35.5, axes={'part': 'a'})])
    arguments = [str(tmp_path / 'methods'), str(tmp_path / 'parts'), '--method', 'compsrt*', '--no-figures']
    result = CliRunner().invoke(report_command, arguments)
    assert result.exit_code == 0 and result.output.startswith('8 runs: '), result.output
    page = (tmp_path / 'methods/report/report.md').read_text()
    assert 'compsrt, part=a' in page and '2dquant' not in page
    assert f"{tmp_path / 'methods'} {tmp_path / 'parts'} --method 'compsrt*'" in page


def test_bits_per_parameter():
    """3.4 and 2.8 bits with 40% pruned, the paper's figures."""
    pruned = {'quant': {'prune_ratio': 0.4}}
    rows = rows_of([record('compsrt', bits, 1, 36.0, **pruned) for bits in (4, 3)])
    assert [row.bits_per_parameter for row in rows] == pytest.approx([3.4, 2.8])


def test_same_place_with_other_options_is_refused():
    twice = [record('compsrt', 4, 1, 36.0), record('compsrt', 4, 1, 35.0, quant={'transform': 'dct'})]
    with pytest.raises(CompSRTError, match='same method, bits, scale and seed'):
        rows_of(twice)


def test_a_run_that_two_sweeps_share_counts_once():
    """Such as that of full precision, which all sweeps with one teacher share."""
    ablation = record('compsrt', 4, 1, 36.0, axes={'part': 'a'})
    assert [len(row.runs) for row in rows_of([teacher(), ablation, teacher()])] == [1, 1]
    with pytest.raises(CompSRTError, match='same method, bits, scale and seed'):
        rows_of([teacher(), teacher(border=4)])


def test_a_set_of_one_image_is_reported_without_a_comparison(tmp_path: Path):
    page = report(tmp_path, records(sets={'Set5': 1}))
    assert '| compsrt ' in page and 'Wilcoxon' not in page
    pytest.importorskip('matplotlib')
    write_report(records(sets={'Set5': 1}), tmp_path / 'drawn', source='runs')


def test_published_figures_and_their_marks(monkeypatch: pytest.MonkeyPatch):
    rows = {row.name: row for row in rows_of(records())}
    assert published_cells(rows['2dquant'])['Set5'].shown('psnr') == '[36.00†]'
    assert published_cells(rows['compsrt'])['B100'].shown('ssim') == '[0.9294†‡§]'
    assert published_cells(rows['compsrt'])['B100'].shown('psnr') == '[32.19†‡]'
    official = find('swinir_light_x2').entry.sha256
    (own,) = rows_of([record('2dquant', 4, 1, 37.8, teacher_sha256=official)])
    assert published_cells(own)['Set5'].shown('psnr') == '[37.87]'


def test_images_are_paired_and_averaged_over_seeds():
    found = compare_methods(rows_of(records()), 'compsrt', 'psnr')
    assert [(c.reference.bits, c.other.name) for c in found] == [
        ('4', 'minmax'), ('4', '2dquant'), ('2', 'minmax'), ('2', '2dquant')
    ]  # fmt: skip
    first = found[0].images
    assert first.n == 19 and first.mean == pytest.approx(2.0)
    assert found[0].by_set.smallest_p == 1 / 4
    assert found[0].by_seed.n == 3 and found[0].by_seed.mean == pytest.approx(2.0)
    assert [c.holm_p for c in adjust_by_holm(found)] == pytest.approx([4 * first.wilcoxon_p] * 4)


def test_only_seeds_that_both_have():
    """The lone run of the other method is compared with the same seed of the reference."""
    found = [*(record('compsrt', 4, seed, 36.0 + seed) for seed in (1, 2)), record('lsq', 4, 2, 36.0)]
    (comparison,) = compare_methods(rows_of(found), 'compsrt', 'psnr')
    assert comparison.seeds == (1, 1) and comparison.images.mean == pytest.approx(2.0)
    assert comparison.by_seed is None
    (mine, _) = rows_of(found)[::-1]
    assert np.allclose(pooled(mine, 'psnr', ['Set5'], ['2']) - pooled(mine, 'psnr', ['Set5'], ['1']), 1, atol=0.03)


def test_the_interval_over_seeds_pairs_them():
    """What moves both methods in one seed does not widen it: 0.5 dB or more, beside leads of 1.0 and 1.2 dB."""
    runs = (('compsrt', 1, 36.0), ('compsrt', 2, 36.7), ('lsq', 1, 35.0), ('lsq', 2, 35.5))
    found = [record(method, 4, seed, psnr) for method, seed, psnr in runs]
    (comparison,) = compare_methods(rows_of(found), 'compsrt', 'psnr')
    half = 12.7062 * 0.1  # Student's t of one degree of freedom, times the standard error of 1.0 and 1.2
    by_seed = comparison.by_seed
    assert (by_seed.low, by_seed.high) == pytest.approx((1.1 - half, 1.1 + half), abs=1e-4)
    (line,) = comparisons_csv([comparison])
    assert line['seeds'] == '2' and line['seeds_low'] == by_seed.low
    assert f'{by_seed.low:+.3f} to {by_seed.high:+.3f}' in comparison_table([comparison])


def test_unlike_protocols_are_refused_and_can_be_parted(tmp_path: Path):
    mixed = [*records(), *(record('lsq', 4, seed, 35.5, iterations=600) for seed in (1, 2))]
    with pytest.raises(CompSRTError) as caught:
        report(tmp_path, mixed)
    assert '(300 and 600)' in str(caught.value)
    text = report(tmp_path, mixed, allow_mixed=True)
    assert '## x2, protocol 1' in text and '## x2, protocol 2' in text
    lsq = [line for line in read_csv(tmp_path / 'out/results.csv') if line['method'] == 'lsq']
    assert {line['protocol'] for line in lsq} == {'2'}


@pytest.mark.parametrize('change', ['border', 'channel', 'padding', 'batch', 'lr_patch', 'teacher_sha256'])
def test_each_part_of_the_protocol_counts(change):
    pair = [record('compsrt', 4, 1, 36.0), record('lsq', 4, 1, 36.0, **{change: 'other'})]
    assert len(protocol_groups(pair, allow_mixed=True)) == 2
    with pytest.raises(CompSRTError, match='2 protocols'):
        protocol_groups(pair)


def test_untrained_and_full_precision_fit_beside_any_budget():
    found = protocol_groups(
        [teacher(), record('minmax', 4, 1, 34.0, iterations=0, batch=9), record('compsrt', 4, 1, 36.0)]
    )
    assert [len(group.records) for group in found] == [3]


def test_report(tmp_path: Path):
    text = report(tmp_path, records(levels_over=0))
    assert '| 4      | compsrt        |       3 | 40.01 ± 0.00 [38.13†‡] |' in text
    assert '## compsrt against the others' in text
    assert '† published' in text and '§' not in text  # no B100 here
    lines = read_csv(tmp_path / 'out/results.csv')
    assert len(lines) == 7 * 2 * 2
    mine = next(line for line in lines if (line['method'], line['bits'], line['metric']) == ('compsrt', '4', 'psnr'))
    assert float(mine['published']) == 38.13 and float(mine['low']) <= float(mine['mean']) <= float(mine['high'])
    compared = read_csv(tmp_path / 'out/comparisons.csv')
    assert len(compared) == 8 and all(float(line['holm_p']) >= float(line['wilcoxon_p']) for line in compared)


def test_rows_that_exceed_their_bits_are_starred(tmp_path: Path):
    found = [*records(), record('compsrt_paper', 4, 1, 37.0, levels_max=210757, levels_over=269)]
    text = report(tmp_path, found)
    assert 'compsrt_paper \\*' in text and '210,757' in text


def test_one_seed_and_one_set(tmp_path: Path):
    text = report(tmp_path, [record(method, 4, 1, psnr, sets={'Set5': 5}) for method, psnr in PSNR.items()])
    assert '±' not in text.split('### x2: PSNR (dB)')[1].split('|')[20] and '0.031' in text


def test_without_reference_or_with_an_unknown_one(tmp_path: Path):
    others = [r for r in records() if r['axes']['method'] != 'compsrt']
    assert 'against the others' not in report(tmp_path, others)
    with pytest.raises(CompSRTError, match='Did you mean `2dquant`'):
        report(tmp_path, others, reference='2dqant')


def test_damaged_records_are_named(tmp_path: Path):
    folder = write_records(tmp_path, records())
    (folder / 'runs/broken.json').write_text('{')
    found, errors = read_runs(folder)
    assert len(found) == 19 and len(errors) == 1 and 'broken.json' in errors[0]
    assert len(read_runs(folder / 'runs')[0]) == 19


def test_nothing_to_report(tmp_path: Path):
    with pytest.raises(CompSRTError, match='no record'):
        read_runs(tmp_path)
    with pytest.raises(CompSRTError, match='is not a folder'):
        read_runs(tmp_path / 'nowhere')


@pytest.mark.parametrize(
    ('values', 'hidden'),
    [([31.75, 31.6, 31.5, 31.4, 31.3, 26.8], [26.8]), ([36.0, 35.0], []), ([36.0, 36.0, 30.0], []), ([36.0], [])],
)
def test_a_method_that_fails_does_not_flatten_the_others(values, hidden):
    assert [value for value in values if value < lowest_shown(values)] == hidden


def test_the_same_records_give_the_same_files(tmp_path: Path):
    pytest.importorskip('matplotlib')
    found = [r for r in records() if r['axes'].get('bits') != '2' and r['axes']['method'] != 'minmax']
    for name in ('a', 'b'):
        write_report(found, tmp_path / name, source='runs')
    drawn = {file.name: file.stat().st_size for file in (tmp_path / 'a/figures').iterdir()}
    assert set(drawn) == {f'x2_{what}{end}' for what in ('bits', 'losses') for end in ('.png', '.svg')}
    assert min(drawn.values()) > 5000
    for file in (file for file in (tmp_path / 'a').rglob('*') if file.is_file()):
        assert file.read_bytes() == (tmp_path / 'b' / file.relative_to(tmp_path / 'a')).read_bytes(), file.name


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(20, 40)), min_size=1, max_size=12))
def test_pareto_front(points):
    """A point is on the front just when no other has at most its bits and more PSNR, or fewer bits and its PSNR."""
    front = pareto(points)
    assert front == sorted(set(front))
    for bits, psnr in points:
        beaten = any((b <= bits and p > psnr) or (b < bits and p >= psnr) for b, p in points)
        assert ((bits, psnr) in front) != beaten
