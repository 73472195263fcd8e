"""report.html: complete in itself, safe against what tensors are called, and changing with the numbers."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from small_analysis import small_analysis

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.analysis.across import paired_tests as across_tests
from compsrt_basicsr.study.analysis.report import write_report
from compsrt_basicsr.study.analysis.report.page import embedded, page
from compsrt_basicsr.study.analysis.settings import AnalysisSettings

EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(2)>&"\''
SHOWN = {'share': 1.0, 'mean': 0.2, 'low': 0.1, 'high': 0.3, 'd_z': 1.2, 'holm_p': 0.001, 'holm_sign_p': 0.002}


class Parts(HTMLParser):
    """Names of elements with their attributes, and texts of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == 'script':
            self.scripts.append('')

    def handle_data(self, data):
        if self.cdata_elem == 'script':
            self.scripts[-1] += data


def test_needs_nothing_from_elsewhere():
    text = page(small_analysis())
    assert not re.search(r'(?i)\bhttps?://|@import|url\(', text)
    for tag, attributes in Parts(text).elements:
        assert not {'src', 'srcset', 'action', 'data'} & set(attributes), tag
        assert attributes.get('href', '#').startswith('#'), tag
        assert tag not in ('link', 'iframe', 'object', 'embed', 'base')


def test_names_cannot_break_out():
    analysis = small_analysis(skipped={EVIL: f'constant {EVIL}'})
    analysis['tensors'][0] |= {'name': EVIL, 'role': EVIL}
    analysis['model'] |= {'source': EVIL, 'note': EVIL}
    parts = Parts(page(analysis))
    plain = Parts(page(small_analysis(skipped={'x': 'y'})))
    assert len(parts.scripts) == len(plain.scripts)
    assert not any(tag == 'img' or 'onerror' in attributes for tag, attributes in parts.elements)
    data = json.loads(parts.scripts[0])
    assert data['tensors'][0]['name'] == EVIL


def test_embedded_numbers_are_those_of_the_analysis():
    analysis = small_analysis(skipped={'bad': 'NaN.'})
    data = json.loads(Parts(page(analysis)).scripts[0])
    assert data == json.loads(json.dumps(embedded(analysis)))
    assert len(data['tensors']) == len(analysis['tensors']) - 1
    first, source = data['tensors'][0]['by']['auto'], analysis['tensors'][0]['by_transform']['auto']
    assert first['counts'] == source['histogram']['counts'] and first['sqnr']['4'] == source['quant']['4']['sqnr']
    assert [tensor['name'] for tensor in data['tensors'] if tensor['twin']] == ['blocks.3.q']


def test_words_and_tables_follow_the_numbers():
    before = page(small_analysis())
    after = page(small_analysis({('weight', 'auto', 'range', None): SHOWN}))
    assert '✓ holds</td>' not in before and 'the tests show narrower ranges' not in before
    assert after.count('✓ holds</td>') == 1 and 'the tests show narrower ranges' in after


def test_every_test_and_correlation_has_a_row():
    analysis = small_analysis()
    rows = page(analysis).count('<tr data-')
    assert rows == len(analysis['tests']) + len(analysis['mechanism'])


def test_left_out_tensors_are_listed_with_their_sentence():
    text = page(small_analysis(skipped={'blocks.0.v.weight': 'all its values are 0.5.'}))
    assert '<code>blocks.0.v.weight</code>: all its values are 0.5.' in text
    assert 'id="skipped"' not in page(small_analysis())


def test_infinite_effects_are_not_numbers():
    text = page(small_analysis({('weight', 'auto', 'range', None): {**SHOWN, 'd_z': None}}))
    assert 'the same change in all' in text and 'None' not in text


@pytest.mark.parametrize('kinds', [('weight',), ('activation',)])
def test_one_kind_alone(kinds):
    analysis = {**small_analysis(kinds=kinds), 'data': None}
    text = page(analysis)
    assert 'none: weights only' in text
    assert list(embedded(analysis)['kinds']) == list(kinds)


def test_without_tests_or_tensors():
    """One transform, or nothing that could be analysed, still makes a page that says so."""
    analysis = small_analysis()
    alone = {**analysis, 'transforms': ['none'], 'tests': [], 'mechanism': []}
    assert 'nothing was tested' in page(alone)
    empty = {**alone, 'tensors': small_analysis(kinds=(), skipped={'a': 'NaN.'})['tensors']}
    assert '0 of 1 analysed' in page(empty)


def test_an_unknown_schema_is_refused(tmp_path):
    with pytest.raises(CompSRTError, match='schema 2, this version reads 1: run `compsrt analyze`'):
        write_report({**small_analysis(), 'schema': 2}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_small_analysis_is_like_a_real_one():
    """These tests are worth something only while `small_analysis` has the fields that the analysis writes."""
    settings = AnalysisSettings(('auto',), sample=5000)
    analysis = small_analysis(kinds=('weight',))
    for tensor in analysis['tensors']:
        for entry in tensor['by_transform'].values():
            entry.update(near_abs=[0.1] * 8, near_rel=[0.1] * 7, quant={bits: {'sqnr': 9.0} for bits in '2348'})
            entry['smaller_samples']['1000'] = entry['smaller_samples']['200']
    real = across_tests(analysis['tensors'], settings)
    assert set(real[0]) == set(analysis['tests'][0])
    assert {test['measure'] for test in real} == {test['measure'] for test in analysis['tests']}
