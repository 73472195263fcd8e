"""Figures: whole files of the right size, and a page that does not need matplotlib."""

from __future__ import annotations

import builtins
import logging
import re

import pytest
from PIL import Image
from small_analysis import small_analysis

from compsrt_basicsr.study.analysis.report import write_report
from compsrt_basicsr.study.analysis.report.captions import captions
from compsrt_basicsr.study.analysis.report.figures import DOTS, WIDTH
from compsrt_basicsr.study.analysis.report.panels import typical

NAMES = {'range_by_depth', 'gain_by_depth', 'distributions', 'near_zero'}


@pytest.fixture
def no_matplotlib(monkeypatch):
    """An installation without matplotlib."""
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name.split('.')[0] == 'matplotlib':
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, '__import__', refuse)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Folder, files, and the sizes of all texts in points, of a report."""
    figure, text = pytest.importorskip('matplotlib.figure'), pytest.importorskip('matplotlib.text')
    folder, sizes = tmp_path_factory.mktemp('report'), []

    class Watched(figure.Figure):
        def savefig(self, *rest, **options):
            super().savefig(*rest, **options)
            sizes.extend(part.get_fontsize() for part in self.findobj(text.Text) if part.get_text())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, 'Figure', Watched)
        return folder, write_report(small_analysis(), folder), sizes


def test_files_are_whole_and_a_column_wide(drawn):
    folder, written, _ = drawn
    assert written[0] == folder / 'report.html'
    assert set((folder / 'figures').iterdir()) == set(written[1:])
    assert {path.stem for path in written[1:]} == NAMES | {'captions'}
    for name in NAMES:
        with Image.open(folder / f'figures/{name}.png') as picture:
            assert picture.width == round(WIDTH * DOTS)
            assert picture.convert('L').getextrema()[0] < 100  # ink
        text = (folder / f'figures/{name}.svg').read_text(encoding='utf-8')
        assert f'width="{72 * WIDTH:g}pt"' in text and text.rstrip().endswith('</svg>')


def test_no_text_is_below_seven_points(drawn):
    _, _, sizes = drawn
    assert len(sizes) > 100 and min(sizes) >= 7


def test_weights_alone_have_figures_too(tmp_path):
    pytest.importorskip('matplotlib')
    write_report({**small_analysis(kinds=('weight',)), 'data': None}, tmp_path)
    text = (tmp_path / 'figures/captions.md').read_text(encoding='utf-8')
    assert '8 weights.' in text and 'patches' not in text


def test_nothing_to_compare_makes_no_figures(tmp_path):
    analysis = {**small_analysis(), 'transforms': ['none'], 'tests': [], 'mechanism': []}
    assert write_report(analysis, tmp_path) == [tmp_path / 'report.html']


def test_without_matplotlib_the_page_is_written_and_one_sentence_said(tmp_path, no_matplotlib, caplog):
    with caplog.at_level(logging.WARNING, 'basicsr.compsrt'):
        assert write_report(small_analysis(), tmp_path) == [tmp_path / 'report.html']
    [record] = caplog.records
    assert 'matplotlib is not installed: `python -m pip install matplotlib`' in record.getMessage()
    assert [path.name for path in tmp_path.iterdir()] == ['report.html']


def test_typical_tensors_are_those_of_extreme_and_median_gain():
    picks = {name: tensor['depth'] for name, tensor in typical(small_analysis(), 'weight')}
    assert picks == {'largest gain': 3, 'median gain': 1, 'least gain': 0}


def test_captions_carry_the_numbers():
    analysis = small_analysis()
    text = captions(analysis, NAMES)
    assert re.findall(r'^## (.*)$', text, re.M) == ['range_by_depth', 'gain_by_depth', 'distributions', 'near_zero']
    assert '8 weights and 8 activations on 4 patches of 16×16 pixels' in text
    assert f'after Holm over all {len(analysis["tests"])} tests' in text
    assert '## near_zero' not in captions(analysis, NAMES - {'near_zero'})
