"""Many images: names, refusals before the work, and going on after a failure."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from test_upscale import Nearest, model

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference import batch
from compsrt_basicsr.inference.batch import make_plan, run_plan
from compsrt_basicsr.inference.upscale import UpscaleSettings


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / 'in'
    made.mkdir()
    for name in ('b.png', 'a.jpg'):
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(made / name)
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(made / '.hidden.png')
    (made / 'notes.txt').write_text('no image')
    return made


def run(plan, **options):
    reported, done = [], []
    written = run_plan(
        plan, model(Nearest()), UpscaleSettings(), report=reported.append, advance=done.append, **options
    )
    return [path.name for path in written], reported, sum(done)


def test_a_folder(folder, tmp_path):
    plan = make_plan([folder, folder / 'a.jpg'], tmp_path / 'out')
    assert not (tmp_path / 'out').exists(), 'planning writes nothing'
    assert run(plan) == (['a.jpg', 'b.png'], [], plan.pixels)
    assert plan.pixels == 2 * 35
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['a.jpg', 'b.png']
    assert Image.open(tmp_path / 'out/b.png').size == (14, 10)


def test_a_broken_image_does_not_stop_the_others(folder, tmp_path):
    data = (folder / 'b.png').read_bytes()
    (folder / 'a1.png').write_bytes(data[:-30])
    (folder / 'a2.png').write_bytes(b'')
    plan = make_plan([folder, folder / 'notes.txt', folder / 'none.png', tmp_path], tmp_path / 'out')
    written, reported, done = run(plan)
    assert written == ['a.jpg', 'b.png']
    assert done == plan.pixels
    expected = ['a2.png', 'notes.txt', 'none.png', 'holds no image', 'a1.png']
    assert len(reported) == len(expected)
    for sentence in expected:
        assert any(sentence in line for line in reported), sentence


def test_results_are_not_overwritten(folder, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'a.jpg').write_text('mine')
    plan = make_plan([folder], out)
    written, reported, _ = run(plan)
    assert (written, (out / 'a.jpg').read_text()) == (['b.png'], 'mine')
    assert 'a.jpg` exists; give --force' in reported[0]
    assert run(plan, force=True)[0] == ['a.jpg', 'b.png']


def test_a_result_that_appears_meanwhile_stays(folder, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    out.mkdir()
    read = batch.read_image_file

    def read_late(path):
        (out / path.name).write_text('mine')
        return read(path)

    monkeypatch.setattr(batch, 'read_image_file', read_late)
    written, reported, _ = run(make_plan([folder / 'b.png'], out))
    assert (written, (out / 'b.png').read_text()) == ([], 'mine')
    assert 'exists; give --force' in reported[0]


def test_formats_and_suffixes(folder, tmp_path):
    plan = make_plan([folder], tmp_path / 'out', 'webp', '_x2')
    assert run(plan)[0] == ['a_x2.webp', 'b_x2.webp']
    assert Image.open(tmp_path / 'out/a_x2.webp').format == 'WEBP'
    assert [job.target.name for job in make_plan([folder], folder, None, '_x2').tasks] == ['a_x2.jpg', 'b_x2.png']


def test_alpha_in_a_format_without(folder, tmp_path):
    Image.new('RGBA', (4, 4)).save(folder / 'c.png')
    written, reported, _ = run(make_plan([folder], tmp_path / 'out', 'jpeg'))
    assert written == ['a.jpg', 'b.jpg']
    assert 'it has an alpha channel, which JPEG files cannot hold' in reported[0]


def test_refused_before_any_work(folder, tmp_path):
    Image.open(folder / 'b.png').save(folder / 'a.png')
    (tmp_path / 'other').mkdir()
    Image.open(folder / 'b.png').save(tmp_path / 'other/b.png')
    with pytest.raises(CompSRTError, match=r'a.jpg` and `.*a.png` would both be written'):
        make_plan([folder], tmp_path / 'out', 'png')
    with pytest.raises(CompSRTError, match=r'b.png` and `.*b.png` would both be written'):
        make_plan([folder, tmp_path / 'other'], tmp_path / 'out')
    with pytest.raises(CompSRTError, match='holds images to upscale'):
        make_plan([folder], folder)
    Image.open(folder / 'b.png').save(folder / 'b_x2.png')
    with pytest.raises(CompSRTError, match=r'would replace `.*b_x2\.png`, another input'):
        make_plan([folder], folder, None, '_x2')
    with pytest.raises(CompSRTError, match='is a file'):
        make_plan([folder], folder / 'b.png')
    with pytest.raises(CompSRTError, match=r'--suffix \.\./x'):
        make_plan([folder], tmp_path / 'out', None, '../x')


@pytest.mark.parametrize(('number', 'ends'), [(errno.ENOSPC, True), (errno.ENAMETOOLONG, False)])
def test_a_full_disk_ends_the_work(folder, tmp_path, monkeypatch, number, ends):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(batch, 'write_image_file', refuse)
    plan = make_plan([folder], tmp_path / 'out')
    if ends:
        with pytest.raises(OSError, match='No space left on device'):
            run(plan)
    else:
        written, reported, done = run(plan)
        assert (written, len(reported), done) == ([], 2, plan.pixels)
        assert 'could not be written (File name too long)' in reported[0]


def test_threads_that_write_into_one_folder(tmp_path):
    """Each image gets its own result, and of equal results each is whole."""
    sources = tmp_path / 'in'
    sources.mkdir()
    for number in range(16):
        Image.fromarray(np.full((5, 7, 3), 10 * number, np.uint8)).save(sources / f'{number}.png')
    network, out = model(Nearest()), tmp_path / 'out'
    plans = [make_plan([sources], out)] * 2
    plans += [make_plan([sources / f'{n}.png' for n in range(k, 16, 2)], out, suffix='_half') for k in range(2)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda plan: run_plan(plan, network, UpscaleSettings()), plans))
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f'{n}{s}.png' for n in range(16) for s in ('', '_half')
    )
    for number in range(16):
        for suffix in ('', '_half'):
            assert (np.array(Image.open(out / f'{number}{suffix}.png')) == 10 * number).all()
    assert len(done[0]) + len(done[1]) == 16, 'no result was written twice'


def test_lost_metadata_is_named(folder, tmp_path):
    """Not a failure: the result is there."""
    exif = Image.Exif()
    exif[0x010F] = 'Maker'
    Image.new('RGB', (4, 4)).save(folder / 'c.png', exif=exif)
    warned = []
    written, reported, _ = run(make_plan([folder / 'c.png'], tmp_path / 'out', 'bmp'), warn=warned.append)
    assert (written, reported, len(warned)) == (['c.bmp'], [], 1)
    assert 'c.bmp' in warned[0] and 'EXIF' in warned[0]
