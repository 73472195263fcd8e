"""A folder of low-resolution images: pixels, names, refusals."""

import errno
import os

import numpy as np
import pytest
from PIL import Image

from compsrt_basicsr.data import lr_folder
from compsrt_basicsr.data.bicubic import downscale
from compsrt_basicsr.data.images import read_image
from compsrt_basicsr.data.lr_folder import write_lr_folder
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.lock import Busy

COLOUR = np.random.default_rng(0).integers(0, 256, (31, 41, 3), dtype=np.uint8)
GREY = COLOUR[:24, :24, 0]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / 'images'
    made.mkdir()
    Image.fromarray(COLOUR).save(made / 'a.b.png')
    Image.fromarray(GREY).save(made / 'c d.tif')
    return made


def test_images_are_cropped_reduced_and_named_by_scale(folder, tmp_path):
    written, bad = write_lr_folder(folder, tmp_path / 'lr', 3)
    assert sorted((tmp_path / 'lr').iterdir()) == written
    assert [path.name for path in written] == ['a.bx3.png', 'c dx3.png']
    assert bad == {}
    np.testing.assert_array_equal(np.array(Image.open(written[0])), downscale(COLOUR[:30, :39], 3))
    np.testing.assert_array_equal(np.array(Image.open(written[1])), downscale(GREY, 3))


def test_results_are_overwritten_only_by_force(folder, tmp_path):
    out = tmp_path / 'lr'
    write_lr_folder(folder, out, 2)
    (out / 'a.bx2.png').write_bytes(b'mine')
    with pytest.raises(CompSRTError, match=r'2 of 2.*a\.bx2\.png.*--force'):
        write_lr_folder(folder, out, 2)
    assert (out / 'a.bx2.png').read_bytes() == b'mine'
    write_lr_folder(folder, out, 2, force=True)
    assert Image.open(out / 'a.bx2.png').size == (20, 15)


def test_bad_images_are_named_before_anything_is_written(folder, tmp_path):
    data = (folder / 'a.b.png').read_bytes()
    (folder / 'a.b.png').write_bytes(data[:1000])
    with pytest.raises(CompSRTError, match=r'(?s)1 of 2.*a\.b\.png is damaged'):
        write_lr_folder(folder, tmp_path / 'lr', 2)
    assert not (tmp_path / 'lr').exists()
    written, bad = write_lr_folder(folder, tmp_path / 'lr', 2, skip_bad=True)
    assert [path.name for path in written] == ['c dx2.png']
    assert bad.keys() == {'a.b.png'}


def test_wrong_arguments_are_named(folder, tmp_path):
    with pytest.raises(CompSRTError, match='another folder'):
        write_lr_folder(folder, folder, 2)
    with pytest.raises(CompSRTError, match='`scale`'):
        write_lr_folder(folder, tmp_path / 'lr', 1)
    Image.fromarray(GREY).save(folder / 'c d.png')
    with pytest.raises(CompSRTError, match=r'`c d\.png` and `c d\.tif`.*`c dx2\.png`'):
        write_lr_folder(folder, tmp_path / 'lr', 2)


def test_a_failed_write_leaves_no_half_file(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space'):
        write_lr_folder(folder, tmp_path / 'lr', 2)
    # a note of what the command was about to name, so that it can go on
    assert [path.name[:12] for path in (tmp_path / 'lr').iterdir()] == ['.unfinished-']


def test_a_second_call_is_refused_for_this_scale_alone(folder, tmp_path, monkeypatch):
    out, refused = tmp_path / 'lr', []

    def read(path):
        if not refused:
            with pytest.raises(Busy) as error:
                write_lr_folder(folder, out, 2, force=True)
            refused.append(str(error.value))
            write_lr_folder(folder, out, 3)
        return read_image(path)

    monkeypatch.setattr(lr_folder, 'read_image', read)
    write_lr_folder(folder, out, 2)
    assert len(refused) == 1 and f'`{out}` is in use by process {os.getpid()}' in refused[0]
    assert sorted(path.name for path in out.iterdir()) == ['a.bx2.png', 'a.bx3.png', 'c dx2.png', 'c dx3.png']
