"""docs/stages.md, docs/results.md and docs/ablation.md are made from their records, and nothing else."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'scripts'))

import make_results  # noqa: E402


def test_committed_page_equals_its_records():
    assert (ROOT / 'docs/stages.md').read_text(encoding='utf-8') == make_results.render(ROOT / 'docs/results')


@pytest.mark.parametrize('name', make_results.REPORTS)
def test_the_committed_report_equals_its_records(tmp_path: Path, name: str):
    made = make_results.comparison(name, tmp_path, figures=False)
    page = (ROOT / f'docs/{name}.md').read_text(encoding='utf-8')
    assert re.sub(r'!\[.*\n\n', '', page) == made
    for file in ('results.csv', 'comparisons.csv'):
        assert (ROOT / f'docs/results/{name}_report' / file).read_text() == (tmp_path / file).read_text()


def test_strict_rows_keep_their_bits_and_gain_from_distillation():
    """What the page claims of strict range, checked on the record: at most 2^b levels, distilled above calibrated."""
    rows = json.loads((ROOT / 'docs/results/house_x2.json').read_text())['rows']
    for bits in (4, 3, 2):
        distilled = rows[f'strict_w{bits}a{bits}_distilled']
        assert distilled['levels_max'] <= 2**bits
        assert distilled['psnr'] > rows[f'strict_w{bits}a{bits}_calibrated']['psnr']


def test_rows_that_were_not_measured_are_said_to_be(tmp_path: Path):
    for name in ('house_x2.json', 'step.json'):
        record = json.loads((ROOT / 'docs/results' / name).read_text())
        if 'rows' in record:
            record['rows'] = {k: v for k, v in record['rows'].items() if k != 'strict_w3a3_distilled'}
        (tmp_path / name).write_text(json.dumps(record))
    page = make_results.render(tmp_path)
    row = next(line for line in page.splitlines() if line.replace(' ', '').startswith('|3|strict'))
    assert row.count('not measured') == 4
    assert 'at 3 bits' not in page.split('In paper range')[0].split('Distillation changes')[1]


def test_pruned_rows_stand_below_their_unpruned_ones_once_measured():
    rows = {'full_precision': {'psnr': 37.0}, 'strict_w3a3_p40_calibrated': {'psnr': 35.0}}
    table = make_results.house_rows(rows)
    assert [line[:2] for line in table][2:4] == [[3, 'strict'], [3, 'strict, 40% pruned']] and len(table) == 7
    assert table[3][2:] == [None, 35.0, None]


def test_ratio_is_the_median_of_the_rounds():
    record = {
        'seconds': {'full precision': [1.0, 2.0, 4.0], 'strict': [2.0, 3.0, 4.0]},
        'peak_bytes': {'full precision': 100, 'strict': 150},
    }
    strict = make_results.step_rows(record)[1]
    assert strict[2] == pytest.approx(1.5)
    assert strict[5] == pytest.approx(1.5)
