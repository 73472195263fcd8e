"""The figure shows everything, no text overlaps, and the same comparison gives the same file."""

from __future__ import annotations

import numpy as np
import pytest

from compsrt_basicsr.study.compare.regions import Region
from compsrt_basicsr.study.compare.results import BICUBIC, MODEL, TEACHER, Comparison, Result, luma, score
from compsrt_basicsr.study.compare.sharpness import measure_sharpness

pytest.importorskip('matplotlib')
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.compare.figure import check_figure_file, draw, error_limit, make_figure

REGION = Region(4, 6, 16, 16)


def comparison(labels=('4 bits',), regions=(REGION,), size=(60, 80), name='coffee', off=4):
    """Each result is the original, which uses levels from 50 to 150, with every second column `off` levels brighter."""
    original = np.random.default_rng(0).integers(50, 150, (*size, 3), dtype=np.uint8)
    image = original.copy()
    image[:, ::2] += off
    roles = [('bicubic', BICUBIC), ('teacher', TEACHER), *((label, MODEL) for label in labels)]
    sharpness = measure_sharpness(luma(image), 0.25)
    details = tuple(score(region.of(image), region.of(original), 0) for region in regions)
    results = [
        Result(label, role, None, None, image, score(image, original, 2), details, sharpness) for label, role in roles
    ]
    truth = measure_sharpness(luma(original), 0.25)
    return Comparison(name, f'{name}.png', None, 2, original, truth, 0.25, tuple(regions), True, tuple(results))


CASES = {
    'usual': {},
    'many models of long names': {'labels': [f'swinir_light_x2_house_w4a4_p{number}' for number in range(6)]},
    'words that cannot be broken': {'labels': ['x' * 60, 'a' * 30]},
    'signs of formulas': {'labels': [r'$\bad$', 'a_b^c', '50%']},
    'wide image': {'size': (40, 400), 'regions': (Region(0, 0, 30, 11), Region(370, 12, 30, 28))},
    'high image': {'size': (400, 40), 'regions': (Region(0, 0, 11, 100), Region(29, 389, 11, 11))},
    'four regions': {'regions': [Region(20 * number, 30, 12, 12) for number in range(4)]},
    'long name': {'name': 'a photograph with a name that says much too much of what it shows'},
}


def texts_of(figure):
    """Titles, labels, captions and legends of a figure, without ticks and names of regions."""
    found = []
    for axes in figure.axes:
        legend = axes.get_legend()
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *(legend.get_texts() if legend else ())]
    return [text for text in found if text.get_text()]


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_no_text_overlaps_another_or_is_cut_off(case):
    figure = make_figure(comparison(**case))
    figure.draw_without_rendering()  # lays it out
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    boxes += [(f'axes {number}', axes.get_window_extent()) for number, axes in enumerate(figure.axes) if axes.axison]
    for number, (name, box) in enumerate(boxes):
        for other_name, other in boxes[:number]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide <= 1 or high <= 1, f'{name!r} and {other_name!r}'  # one pixel: what rounding may add
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1


def test_every_score_is_shown():
    shown = comparison(('a', 'b'))
    text = '\n'.join(text.get_text() for text in texts_of(make_figure(shown)))
    for result in shown.results:
        assert f'{result.label}\n{result.whole.psnr:.2f} / {result.whole.ssim:.4f}' in text
        for scores in result.details:
            assert f'{scores.psnr:.2f} / {scores.ssim:.4f}' in text
    assert all(words in text for words in ('coffee, ×2', 'HR', 'dB / SSIM, image', 'dB / SSIM, A'))


def test_crops_are_the_pixels_and_maps_the_errors_on_one_scale():
    """Y grows by 219/255 of a grey level's growth."""
    shown = comparison(off=20)
    region = shown.regions[0]
    images = [image for axes in make_figure(shown).axes for image in axes.get_images()]
    crops, maps = images[1:5], images[5:8]
    assert all(np.array_equal(image.get_array(), region.of(result.image)) and image.get_interpolation() == 'nearest'
               for image, result in zip(crops, shown.results))  # fmt: skip
    assert np.array_equal(crops[3].get_array(), region.of(shown.original))
    expected = np.tile([20 * 219 / 255, 0], (16, 8))
    for image in maps:
        assert np.asarray(image.get_array()) == pytest.approx(expected, abs=1e-3)
        assert image.get_clim() == (0, error_limit(shown)) == (0, 20)


def test_results_equal_to_the_original():
    shown = comparison(off=0)
    assert error_limit(shown) == 5
    assert any('equal / 1.0000' in text.get_text() for text in texts_of(make_figure(shown)))


@pytest.mark.parametrize(('suffix', 'start'), [('.png', b'\x89PNG'), ('.svg', b'<?xml'), ('.pdf', b'%PDF')])
def test_the_same_bytes_at_every_call(suffix, start):
    first = draw(comparison(), suffix, 60)
    assert first.startswith(start) and first == draw(comparison(), suffix, 60)


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('fig.gif', r'fig\.gif` does not end in \.png'),
        ('fig', 'does not end in'),
        ('gone/fig.png', r'gone/fig\.png` is not a file'),
        ('folder.png', r'folder\.png` is not a file'),
    ],
)
def test_wrong_file_names(tmp_path, name, sentence):
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(CompSRTError, match=sentence):
        check_figure_file(tmp_path / name)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, 'Permission denied', str(dir))

    monkeypatch.setattr('tempfile.TemporaryFile', refuse)
    with pytest.raises(CompSRTError, match=r'cannot be written to \(Permission denied\): give another folder'):
        check_figure_file(tmp_path / 'fig.png')


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'matplotlib', None)
    with pytest.raises(CompSRTError, match='`python -m pip install matplotlib`'):
        check_figure_file(tmp_path / 'fig.PNG')
