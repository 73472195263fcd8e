"""Tables and JSON of a comparison."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compsrt_basicsr.study.compare.regions import Region
from compsrt_basicsr.study.compare.report import details_table, region_name, to_json, whole_table
from compsrt_basicsr.study.compare.results import (
    BICUBIC,
    MODEL,
    TEACHER,
    Comparison,
    Result,
    Scores,
    luma,
    ratio,
    score,
)
from compsrt_basicsr.study.compare.sharpness import RINGS, Sharpness

IMAGE = np.zeros((40, 60, 3), np.uint8)


def sharp(energy, share):
    return Sharpness(energy, share, np.array([energy, np.nan] * (RINGS // 2)))


def comparison(with_teacher=True):
    place = (Region(0, 0, 11, 11), Region(20, 20, 12, 14))
    results = [
        Result('bicubic', BICUBIC, None, None, IMAGE, Scores(20, 0.5), (Scores(10, 0.1), Scores(11, 0.2)),
               sharp(20.0, 0.01)),
        Result('teacher', TEACHER, 'zoo://t', 'float', IMAGE, Scores(30, 0.9), (Scores(20, 0.6), Scores(21, 0.7)),
               sharp(80.0, 0.04)),
        Result('ours', MODEL, 'a.pth', 'integer', IMAGE, Scores(float('inf'), 1.0),
               (Scores(19, 0.5), Scores(22, 0.8)), sharp(60.0, None)),
    ]  # fmt: skip
    results = [result for result in results if with_teacher or result.role != TEACHER]
    return Comparison('a', 'a.png', None, 2, IMAGE, sharp(100.0, 0.08), 0.25, place, True, tuple(results))


def cells(table):
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines() if '---' not in line]


def test_the_table_of_the_image():
    assert cells(whole_table(comparison())) == [
        ['', 'PSNR-Y (dB)', 'SSIM-Y', 'gradient energy', 'of HR', 'of teacher',
         'share above 0.25', 'of HR', 'of teacher'],
        ['bicubic', '20.00', '0.5000', '20.0', '20.0%', '25.0%', '1.00%', '12.5%', '25.0%'],
        ['teacher', '30.00', '0.9000', '80.0', '80.0%', '100.0%', '4.00%', '50.0%', '100.0%'],
        ['ours', 'equal', '1.0000', '60.0', '60.0%', '75.0%', '–', '–', '–'],
        ['HR', '–', '–', '100.0', '100.0%', '125.0%', '8.00%', '100.0%', '200.0%'],
    ]  # fmt: skip


def test_without_a_teacher_nothing_is_compared_with_it():
    assert cells(whole_table(comparison(False)))[0].count('of teacher') == 0
    assert to_json(comparison(False), {})['results'][0]['sharpness']['of_teacher'] is None


def test_the_table_of_the_regions():
    assert cells(details_table(comparison())) == [
        ['', 'A: PSNR-Y (dB)', 'A: SSIM-Y', 'B: PSNR-Y (dB)', 'B: SSIM-Y'],
        ['bicubic', '10.00', '0.1000', '11.00', '0.2000'],
        ['teacher', '20.00', '0.6000', '21.00', '0.7000'],
        ['ours', '19.00', '0.5000', '22.00', '0.8000'],
    ]


def test_json_has_every_figure_and_null_where_there_is_none():
    data = json.loads(json.dumps(to_json(comparison(), {'version': '1'}), allow_nan=False))
    assert (data['schema'], data['version'], data['scale'], data['border'], data['cutoff']) == (2, '1', 2, 2, 0.25)
    assert data['regions'][1] == {'name': 'B', 'x': 20, 'y': 20, 'width': 12, 'height': 14, 'found': True}
    assert data['hr']['sharpness']['of_teacher'] == {'gradient_energy': 1.25, 'high_frequency_share': 2.0}
    ours = data['results'][2]
    assert (ours['label'], ours['role'], ours['model'], ours['execution']) == ('ours', 'model', 'a.pth', 'integer')
    assert (ours['psnr_y'], ours['ssim_y']) == (None, 1.0)
    assert ours['regions'] == [{'psnr_y': 19, 'ssim_y': 0.5}, {'psnr_y': 22, 'ssim_y': 0.8}]
    assert ours['sharpness']['of_hr'] == {'gradient_energy': 0.6, 'high_frequency_share': None}
    assert ours['sharpness']['spectrum'][:2] == [60, None] and len(data['frequencies']) == RINGS


def test_names_of_regions():
    assert [region_name(number) for number in (0, 25, 26, 53)] == ['A', 'Z', 'A1', 'B2']


def test_a_ratio_to_nothing():
    assert ratio(1.0, 4.0) == 0.25 and ratio(None, 4.0) is None and ratio(1.0, None) is None and ratio(1.0, 0.0) is None


def test_psnr_in_closed_form():
    """Grey and a grey ten levels brighter: Y differs by 10 * 219 / 255, and outside of the border nothing counts."""
    first = np.full((30, 40, 3), 100, np.uint8)
    second = first + np.uint8(10)
    second[:2] = 255
    found = score(second, first, 2)
    assert found.psnr == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)), abs=1e-3)
    assert 0.9 < found.ssim < 1
    assert luma(first)[0, 0] == pytest.approx(16 + 219 * 100 / 255, abs=1e-3)
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert luma(red)[0, 0] == pytest.approx(16 + 65.481, abs=1e-3)
