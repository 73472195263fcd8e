"""The data sets of a sweep."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LmdbPair

from compsrt_basicsr.config.sweep import LmdbOptions
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.data import DataSets


def write_images(folder: Path, *names: str, side: int = 32) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((side, side, 3), 10 * index, np.uint8))


def keys(lmdb: Path) -> list[str]:
    return [line.split('.')[0] for line in (lmdb / 'meta_info.txt').read_text().splitlines()]


def test_images_become_lmdbs_once(tmp_path: Path):
    write_images(tmp_path / 'a', 'x.png', 'y.png')
    write_images(tmp_path / 'b', 'x.png')
    sets = DataSets({'train': ['*/*.png'], 'Set5': 'a'}, tmp_path, tmp_path / 'out')
    sets.check({2})
    assert sets.ready({2}) == {}
    train, test = sets.pair('train', 2), sets.pair('Set5', 2)
    assert keys(train.gt) == keys(train.lq) == ['a_x', 'a_y', 'b_x']  # the folder tells namesakes apart
    assert keys(test.gt) == ['x', 'y']
    assert train.fingerprint()['pictures'] == 3 and train.fingerprint() != test.fingerprint()
    made = (train.gt / 'data.mdb').stat().st_mtime_ns
    sets.ready({2})
    assert (train.gt / 'data.mdb').stat().st_mtime_ns == made


def test_bad_training_images_are_left_out_and_listed(tmp_path: Path):
    write_images(tmp_path / 'train', 'x.png')
    (tmp_path / 'train' / 'broken.png').write_bytes(b'no image')
    skipped = DataSets({'train': 'train'}, tmp_path, tmp_path / 'out').ready({2})
    assert list(skipped['train']) == ['broken.png']
    with pytest.raises(CompSRTError, match=r'broken\.png'):  # a test set must be whole
        DataSets({'Set5': 'train'}, tmp_path, tmp_path / 'other').ready({2})


def test_changed_images_are_refused(tmp_path: Path):
    write_images(tmp_path / 'a', 'x.png')
    sets = DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    write_images(tmp_path / 'a', 'x.png', 'y.png')
    with pytest.raises(CompSRTError, match='`Set5`'):
        sets.ready({2})


def test_changed_images_of_the_same_names_are_refused(tmp_path: Path):
    """The fingerprint of an LMDB knows names and sizes only: pixels of another folder would go unnoticed."""
    write_images(tmp_path / 'a', 'x.png')
    write_images(tmp_path / 'b', 'other.png', 'x.png')
    (tmp_path / 'b' / 'other.png').unlink()
    DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out').ready({2})
    with pytest.raises(CompSRTError, match='`Set5`'):
        DataSets({'Set5': 'b'}, tmp_path, tmp_path / 'out').ready({2})


def test_moved_images_are_the_same(tmp_path: Path):
    write_images(tmp_path / 'a', 'x.png')
    DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out').ready({2})
    (tmp_path / 'a').rename(tmp_path / 'moved')
    sets = DataSets({'Set5': 'moved'}, tmp_path, tmp_path / 'out')
    sets.ready({2, 4})  # x4 is made of the links, which must lead to the new place
    assert keys(sets.pair('Set5', 4).gt) == ['x']


def test_images_of_one_name_in_folders_of_one_name_are_all_taken(tmp_path: Path):
    write_images(tmp_path / 'a/HR', 'x.png', 'y.png')
    write_images(tmp_path / 'b/HR', 'x.png')
    sets = DataSets({'train': ['a/HR', 'b/HR']}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    assert keys(sets.pair('train', 2).gt) == ['a_HR_x', 'a_HR_y', 'b_HR_x']


def test_names_that_run_together_are_refused(tmp_path: Path):
    write_images(tmp_path / 'a_b', 'c.png')
    write_images(tmp_path / 'a', 'b_c.png')
    with pytest.raises(CompSRTError, match='a_b'):
        DataSets({'train': ['a_b', 'a']}, tmp_path, tmp_path / 'out').check({2})


def test_a_bad_image_can_be_left_out(tmp_path: Path):
    write_images(tmp_path / 'a', 'x.png', 'y.png')
    (tmp_path / 'a' / 'z.png').write_bytes(b'no image')
    with pytest.raises(CompSRTError, match=r'(?s)`Set5`.*z\.png'):
        DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out').ready({2})
    sets = DataSets({'Set5': 'a/[xy].png'}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    assert keys(sets.pair('Set5', 2).gt) == ['x', 'y']


def test_sets_whose_names_begin_alike_are_apart(tmp_path: Path):
    write_images(tmp_path / 'a', 'x.png')
    write_images(tmp_path / 'b', 'x.png', 'y.png')
    sets = DataSets({'Photos_crop': 'a', 'Photos': 'b'}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    assert keys(sets.pair('Photos', 2).gt) == ['x', 'y']


def test_given_lmdbs(tiny_lmdb: LmdbPair, tmp_path: Path):
    sets = DataSets({'Set5': LmdbOptions(gt=str(tiny_lmdb.hr), lq=str(tiny_lmdb.lr))}, tmp_path, tmp_path / 'out')
    sets.check({2})
    assert sets.pair('Set5', 2).options()['dataroot_lq'] == str(tiny_lmdb.lr)
    placed = DataSets({'Set5': LmdbOptions(gt='x{scale}/a.lmdb', lq='x{scale}/b.lmdb')}, tmp_path, tmp_path / 'out')
    assert placed.pair('Set5', 3).gt == tmp_path.resolve() / 'x3/a.lmdb'


@pytest.mark.parametrize(
    ('value', 'culprit'), [('nowhere/*.png', 'nowhere/*.png'), (LmdbOptions(gt='a.lmdb', lq='b.lmdb'), 'a.lmdb')]
)
def test_what_does_not_exist_is_named(tmp_path: Path, value: LmdbOptions | str, culprit: str):
    with pytest.raises(CompSRTError) as caught:
        DataSets({'Set5': value}, tmp_path, tmp_path / 'out').check({2})
    assert '`Set5`' in str(caught.value) and culprit in str(caught.value)
