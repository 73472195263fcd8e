"""The pages of the study show what their records say."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / 'scripts'))

import make_results
from findings_tables import Records, codes_table, losses_table, networks_table, parts_table, stages_table
from markers import fill, fill_values
from ratio_table import ratio_table
from sweep_records import record, teacher, write_records


def test_pages_have_the_tables_and_numbers_of_the_records():
    """Renew with `python scripts/make_results.py`. Text outside the markers is free."""
    for page, filled in make_results.filled_pages().items():
        assert page.read_text(encoding='utf-8') == filled, page.name


@pytest.mark.parametrize('name', make_results.REPORTS)
def test_reports_are_those_of_the_records(tmp_path: Path, name: str):
    made = make_results.report(name, tmp_path, figures=False)
    page = (ROOT / f'docs/{name}.md').read_text(encoding='utf-8')
    assert re.sub(r'!\[.*\n\n', '', page) == made
    for file in ('results.csv', 'comparisons.csv'):
        assert (ROOT / f'docs/results/{name}_report' / file).read_text() == (tmp_path / file).read_text()


def test_values_stand_between_markers():
    page = 'It is <!-- = b 1 -->old<!-- / -->, not <!-- = a -->\nold<!-- / -->.\n<!-- t -->\nold\n<!-- end of t -->'
    filled = fill(fill_values(page, str.upper), {'t': 'TABLE'})
    assert filled == (
        'It is <!-- = b 1 -->B 1<!-- / -->, not <!-- = a -->A<!-- / -->.\n<!-- t -->\n\nTABLE\n\n<!-- end of t -->'
    )
    assert fill(fill_values(filled, str.upper), {'t': 'TABLE'}) == filled


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Three methods with known PSNR, and two stages."""
    sets = dict.fromkeys(('Set5', 'Set14', 'B100'), 3)
    methods = [
        record(method, bits, 1, psnr + bits, sets=sets)
        for method, psnr in (('lsq', 30.0), ('compsrt', 31.0))
        for bits in (4, 3, 2)
    ]
    for folder in ('packaged', 'ablation', 'pruning', 'budget', 'transform'):
        (tmp_path / f'{folder}_sweep').mkdir()
    write_records(tmp_path / 'packaged_sweep', [teacher(38.0, sets=sets), *methods])
    parts = [record('compsrt', bits, 1, 30.5 + bits, sets=sets, axes={'part': 'no x'}) for bits in (4, 3, 2)]
    for folder in ('ablation', 'pruning', 'budget', 'transform'):
        write_records(tmp_path / f'{folder}_sweep', parts)
    stages = {
        'full_precision': {'psnr': 38.0},
        'strict_w4a4_calibrated': {'psnr': 35.0},
        'strict_w4a4_distilled': {'psnr': 36.0, 'levels_max': 16, 'levels_over': 0},
        'paper_w4a4_distilled': {'psnr': 37.0, 'levels_max': 12345, 'levels_over': 7},
    }
    (tmp_path / 'packaged_x2.json').write_text(json.dumps({'rows': stages}))
    return Records(tmp_path)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('psnr 4 lsq', '35.01'),
        ('loss 2 compsrt', '5.00'),
        ('losses compsrt', '3.00, 4.00 and 5.00'),
        ('losses compsrt, part=no x', '3.50, 4.50 and 5.50'),
        ('widths lsq', '35.01, 34.01 and 33.01'),
        ('sets 4 lsq', '35.01, 35.01 and 35.01'),
        ('behind 4 compsrt, part=no x', '0.500 dB (0.500 to 0.500)'),
        ('ahead 4 compsrt over compsrt, part=no x', '0.500 dB (0.500 to 0.500)'),
        ('ahead 4 lsq over compsrt', '-1.000 dB (-1.000 to -1.000)'),
        ('stage_gain 4', '1.00'),
        ('codes 4', '12,345'),
        ('over 4', '7'),
        ('full_precision', '38.00'),
    ],
)
def test_values_of_the_records(records: Records, key: str, value: str):
    assert records.value(key) == value


def test_a_value_that_does_not_exist_is_named(records: Records):
    with pytest.raises(SystemExit, match='`lost 4 lsq`'):
        records.value('lost 4 lsq')


def test_losses_are_those_of_plain_methods(records: Records):
    lines = losses_table(records.rows).splitlines()[2:]
    assert [line.split('|')[1].strip() for line in lines] == ['`lsq`', '`compsrt`']
    assert [cell.strip() for cell in lines[0].split('|')[3:7]] == ['4.00', '5.00', '6.00', '+1.000 (1.000 to 1.000)']


def test_parts_are_compared_with_the_whole_method(records: Records):
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in parts_table(records.rows).splitlines()]
    assert lines[0][:3] == ['part', 'Set5 at 4 bits', 'behind at 4 bits']
    assert lines[2] == ['nothing', '36.01', '', '35.01', '', '34.01', '']
    assert lines[3:] == [
        ['`no x`', *(cell for bits in (4, 3, 2) for cell in (f'{bits + 31.51:.2f}', '0.500 (0.500 to 0.500)'))]
    ]


def test_losses_of_networks_are_against_their_own_teachers():
    found = [
        made
        for name, psnr in (('zoo://a', 38.0), ('zoo://b', 34.0))
        for made in (teacher(psnr, teacher=name), record('compsrt', 2, 0, psnr - 0.5, teacher=name))
    ]
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in networks_table(found).splitlines()[2:]]
    assert [line[:2] for line in lines] == [
        ['`zoo://a`', '32'],
        ['`zoo://a`', '2'],
        ['`zoo://b`', '32'],
        ['`zoo://b`', '2'],
    ]
    assert [line[4:] for line in lines] == [['', ''], ['0.50', '0.50']] * 2


def test_rows_that_were_not_measured_are_marked():
    stages = {'full_precision': {'psnr': 37.0}, 'strict_w3a3_p40_calibrated': {'psnr': 35.0}}
    lines = stages_table(stages).splitlines()[2:]
    pruned = next(i for i, line in enumerate(lines) if 'pruned' in line)
    assert len(lines) == 7 and '35.00' in lines[pruned] and lines[pruned].count('not measured') == 2
    assert lines[pruned - 1].split('|')[1:3] == [lines[pruned].split('|')[1], lines[pruned - 1].split('|')[2]]


def test_codes_are_ordered_by_bits_and_training():
    found = [
        {
            'quant': {'weight_bits': bits},
            'protocol': {'iterations': iterations},
            'results': {'Set5': {'psnr': 37.0, 'levels_max': 1234.0, 'levels_over': 5.0, 'quantizers': 480}},
        }
        for bits, iterations in ((2, 0), (4, 12), (4, 0))
    ]
    full = {'quant': None}
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in codes_table([full, *found]).splitlines()]
    assert [line[:2] for line in lines[2:]] == [['4', '0'], ['4', '12'], ['2', '0']]
    assert lines[3][2:] == ['37.00', '1,234 of 16', '5 of 480']


def test_ratios_are_medians_over_rounds():
    seconds = {'full precision': [1.0, 2.0, 4.0], 'strict': [2.0, 3.0, 4.0]}
    table = ratio_table('step', seconds, {'full precision': 100_000_000, 'strict': 150_000_000})
    cells = [cell.strip() for cell in table.splitlines()[-1].split('|')[1:-1]]
    assert cells == ['strict', '3.00', '1.50', '1.00 to 2.00', '150', '1.50']
