"""Links in folders: followed, also twice to one image; a link that leads nowhere is named, in every command."""

from __future__ import annotations

import os
import shutil

import data_sets
import numpy as np
import pytest
from PIL import Image

from compsrt_basicsr.data.catalog import parse_catalog
from compsrt_basicsr.data.dataset_folder import DatasetFolder, image_errors, write_record
from compsrt_basicsr.data.images import ImageError, check_file, list_images, read_image
from compsrt_basicsr.data.lr_folder import write_lr_folder
from compsrt_basicsr.data.prepare import prepare
from compsrt_basicsr.data.prepare_settings import PrepareSettings
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.batch import make_plan
from compsrt_basicsr.inference.image_io import read_image_file
from compsrt_basicsr.inference.patches import Patches
from compsrt_basicsr.study.sweep.data import DataSets

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


@pytest.fixture
def frames(tmp_path):
    """A sequence whose second frame is a link to the first, and whose third leads out of the folder."""
    folder, elsewhere = tmp_path / 'frames', tmp_path / 'elsewhere'
    folder.mkdir()
    elsewhere.mkdir()
    Image.fromarray(PIXELS).save(folder / '1.png')
    Image.fromarray(PIXELS[::-1]).save(elsewhere / 'x.png')
    (folder / '2.png').symlink_to('1.png')
    (folder / '3.png').symlink_to(elsewhere / 'x.png')
    return folder


def dangle(folder):
    (folder / '4.png').symlink_to('gone.png')


def sweep_data(folder):
    return DataSets({'val': str(folder)}, folder.parent, folder.parent / 'made')


def test_links_are_images_everywhere(frames, tmp_path):
    names = ['1.png', '2.png', '3.png']
    assert [path.name for path in list_images(frames)] == names
    plan = make_plan([frames, frames / '2.png', tmp_path / 'frames'], tmp_path / 'out')
    assert [task.target.name for task in plan.tasks] == names
    assert plan.errors == []
    written, _ = write_lr_folder(frames, tmp_path / 'lr', 2)
    assert [path.name for path in written] == ['1x2.png', '2x2.png', '3x2.png']
    assert prepare(frames, tmp_path / 'lmdb', PrepareSettings('A', (2,), crop=0)).images == 3
    assert len(Patches(frames, 3, 8, 3, seed=0)) == 3
    assert len(sweep_data(frames)._images('val')) == 3


def test_a_link_to_a_folder(frames, tmp_path):
    (tmp_path / 'linked').symlink_to(frames)
    (frames / 'sub.png').symlink_to(tmp_path / 'elsewhere')
    assert len(list_images(tmp_path / 'linked')) == 3, 'a folder is no image, whatever its name'
    assert len(make_plan([frames, tmp_path / 'linked'], tmp_path / 'out').tasks) == 3


def test_a_link_that_leads_nowhere_is_named(frames, tmp_path):
    dangle(frames)
    plan = make_plan([frames], tmp_path / 'out')
    assert len(plan.tasks) == 3
    assert len(plan.errors) == 1 and '4.png' in plan.errors[0] and 'gone.png' in plan.errors[0]
    for work in (
        lambda: write_lr_folder(frames, tmp_path / 'lr', 2),
        lambda: prepare(frames, tmp_path / 'lmdb', PrepareSettings('A', (2,), crop=0)),
        lambda: Patches(frames, 1, 8, 3, seed=0),
        lambda: sweep_data(frames).check([2]),
        lambda: read_image(frames / '4.png'),
        lambda: read_image_file(frames / '4.png'),
    ):
        with pytest.raises(CompSRTError, match=r'4\.png.*gone\.png'):
            work()
    assert write_lr_folder(frames, tmp_path / 'lr', 2, skip_bad=True)[1].keys() == {'4.png'}
    result = prepare(frames, tmp_path / 'lmdb', PrepareSettings('A', (2,), crop=0), skip_bad=True, restart=True)
    assert (result.images, result.skipped.keys()) == (3, {'4.png'})


def test_links_in_a_circle(frames):
    (frames / 'a.png').symlink_to('b.png')
    (frames / 'b.png').symlink_to('a.png')
    for name in ('a.png', 'b.png'):
        with pytest.raises(ImageError):
            read_image(frames / name)


def test_no_regular_file_is_opened(frames, tmp_path):
    """Opening a pipe would wait for ever."""
    os.mkfifo(frames / 'pipe.png')
    (frames / 'folder.png').mkdir()
    for read in (check_file, read_image, read_image_file):
        for name in ('pipe.png', 'folder.png'):
            with pytest.raises(ImageError, match=name):
                read(frames / name)
    assert len(make_plan([frames], tmp_path / 'out').errors) == 1


def test_a_result_never_replaces_what_an_input_links_to(frames, tmp_path):
    with pytest.raises(CompSRTError, match=r'x\.png'):
        shutil.copy(frames / '1.png', frames / 'x.png')
        make_plan([frames], tmp_path / 'elsewhere')


def test_data_sets(frames, tmp_path):
    catalog = parse_catalog(data_sets.catalog_text('https://example.org/', data_sets.archives()), 'test')
    folder = DatasetFolder(catalog['Five'], tmp_path / 'sets')
    folder.path.mkdir(parents=True)
    shutil.copytree(frames, folder.images, symlinks=True)
    write_record(folder, folder.images)
    (tmp_path / 'elsewhere/x.png').unlink()
    (error,) = image_errors(folder)
    assert '3.png' in error
