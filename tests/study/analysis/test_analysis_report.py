"""The report: its tables carry the numbers of the analysis, its figures are whole files."""

from __future__ import annotations

import logging

import pytest
from PIL import Image
from small_analysis import small_analysis

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.analysis import figures, report
from compsrt_basicsr.study.analysis.across import paired_tests
from compsrt_basicsr.study.analysis.figures import CAPTIONS, WIDTH, typical
from compsrt_basicsr.study.analysis.report import write_report
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.tables import claims_table, correlations_table, outcomes_table, supported

RANGE = ('weight', 'auto', 'range', None)
SHOWN = {'share': 1.0, 'mean': 0.2, 'low': 0.1, 'high': 0.3, 'd_z': 1.2, 'wilcoxon_p': 1e-6, 'holm_p': 0.001,
         'holm_sign_p': 0.002}  # fmt: skip


@pytest.fixture(autouse=True)
def low_resolution(monkeypatch):
    monkeypatch.setattr(figures, 'DPI', 50)


@pytest.fixture
def no_matplotlib(monkeypatch):
    """An installation without matplotlib."""
    monkeypatch.setattr(report, 'find_spec', lambda name: None)


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ('change', 'expected'),
    [({}, False), (SHOWN, True), ({**SHOWN, 'mean': -0.2}, False), ({**SHOWN, 'holm_p': 0.051}, False)],
)
def test_a_claim_is_supported_by_the_adjusted_p_and_the_mean(change, expected):
    test = next(t for t in small_analysis({RANGE: change})['tests'] if t['measure'] == 'range')
    assert supported(test) is expected


def test_a_row_of_the_tests_has_every_number():
    analysis = small_analysis({RANGE: SHOWN})
    row = next(row for row in rows(outcomes_table(analysis)) if row[:3] == ['weight', 'auto', 'range'])
    assert row[3:] == ['falls', 'yes', '8', '100%', '0.2 [0.1, 0.3]', '1.2', '1e-06', '1e-03', '2e-03']
    assert len(rows(outcomes_table(analysis))) == len(analysis['tests'])
    assert sum('yes' in row for row in rows(outcomes_table(analysis))) == 1


def test_an_effect_that_is_not_finite_has_a_dash():
    row = rows(outcomes_table(small_analysis({RANGE: {**SHOWN, 'd_z': None}})))[0]
    assert row[8] == '–'


def test_the_summary_has_the_leading_claims():
    """Four claims for two kinds and two transforms, in the terminal and in the report."""
    analysis = small_analysis({RANGE: SHOWN})
    lines = claims_table(analysis).splitlines()
    assert len(lines) == 2 + 4 and any('100%, p 1e-03' in line for line in lines)
    assert len(rows(outcomes_table(analysis, leading=True))) == 4 * 4


def test_correlations_are_those_at_four_bits():
    analysis = small_analysis(kinds=('weight',))
    found = rows(correlations_table(analysis))
    assert len(found) == 2 * 4  # transforms × (range, near_abs; plain and partial)
    assert found[1][2:] == ['range', 'near_abs, kurtosis', '8', '0.1 [-0.4, 0.6]', '0.30']


def test_files_are_whole(tmp_path):
    pytest.importorskip('matplotlib')
    written = write_report(small_analysis(skipped={'blocks.0.v.weight': 'All its values are 0.5.'}), tmp_path)
    assert written[0] == tmp_path / 'report.md'
    text = written[0].read_text(encoding='utf-8')
    assert '`blocks.0.v.weight`: All its values are 0.5.' in text
    assert {path.name for path in written[1:]} == {f'{name}.{suffix}' for name in CAPTIONS for suffix in ('png', 'svg')}
    for name in CAPTIONS:
        assert f'](figures/{name}.png)' in text
        with Image.open(tmp_path / f'figures/{name}.png') as image:
            assert image.width == round(WIDTH * 50)
            assert image.convert('L').getextrema()[0] < 150  # ink
        assert (tmp_path / f'figures/{name}.svg').read_text(encoding='utf-8').rstrip().endswith('</svg>')


def test_weights_alone_of_one_block(tmp_path):
    pytest.importorskip('matplotlib')
    analysis = {**small_analysis(kinds=('weight',)), 'data': None}
    analysis['tensors'] = [tensor for tensor in analysis['tensors'] if tensor['depth'] == 0]
    assert len(write_report(analysis, tmp_path)) == 1 + 2 * len(CAPTIONS)


@pytest.mark.parametrize('tensors', [small_analysis()['tensors'], []], ids=['one transform', 'no tensors'])
def test_nothing_to_compare_makes_no_figures(tmp_path, tensors):
    analysis = {**small_analysis(), 'transforms': ['none'], 'tests': [], 'mechanism': [], 'tensors': tensors}
    assert write_report(analysis, tmp_path) == [tmp_path / 'report.md']


def test_without_matplotlib_only_the_tables_are_written(tmp_path, no_matplotlib, caplog):
    with caplog.at_level(logging.WARNING, 'basicsr.compsrt'):
        assert write_report(small_analysis(), tmp_path) == [tmp_path / 'report.md']
    assert 'matplotlib' in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ['report.md']
    assert 'figures/' not in (tmp_path / 'report.md').read_text(encoding='utf-8')


def test_typical_tensors_are_those_of_extreme_and_median_gain():
    picks = {name: tensor['depth'] for name, tensor in typical(small_analysis(), 'weight').items()}
    assert picks == {'largest gain': 3, 'median gain': 1, 'smallest gain': 0}


def test_an_unknown_schema_is_refused(tmp_path):
    with pytest.raises(CompSRTError, match='schema 2'):
        write_report({**small_analysis(), 'schema': 2}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_small_analysis_is_like_a_real_one():
    """These tests need `small_analysis` to have the fields of a real analysis."""
    settings = AnalysisSettings(('auto',), sample=5000, resamples=100)
    analysis = small_analysis(kinds=('weight',))
    for tensor in analysis['tensors']:
        for entry in tensor['by_transform'].values():
            entry.update(near_abs=[0.1] * 8, near_rel=[0.1] * 7, quant={bits: {'sqnr': 9.0} for bits in '2348'})
            entry['smaller_samples']['1000'] = entry['smaller_samples']['200']
    real = paired_tests(analysis['tensors'], settings)
    assert set(real[0]) == set(analysis['tests'][0])
    assert {test['measure'] for test in real} == {test['measure'] for test in analysis['tests']}
