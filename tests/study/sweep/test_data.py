"""The data of a grid."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LmdbPair

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.data import DataSets


def write_pictures(folder: Path, *names: str, side: int = 32) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((side, side, 3), 10 * index, np.uint8))


def keys(lmdb: Path) -> list[str]:
    return [line.split('.')[0] for line in (lmdb / 'meta_info.txt').read_text().splitlines()]


def test_pictures_become_lmdbs_once(tmp_path: Path):
    write_pictures(tmp_path / 'a', 'x.png', 'y.png')
    write_pictures(tmp_path / 'b', 'x.png')
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


def test_bad_training_pictures_are_left_out_and_told(tmp_path: Path):
    write_pictures(tmp_path / 'train', 'x.png')
    (tmp_path / 'train' / 'broken.png').write_bytes(b'no picture')
    skipped = DataSets({'train': 'train'}, tmp_path, tmp_path / 'out').ready({2})
    assert list(skipped['train']) == ['broken.png']
    with pytest.raises(CompSRTError, match=r'broken\.png'):  # a test set must be whole
        DataSets({'Set5': 'train'}, tmp_path, tmp_path / 'other').ready({2})


def test_changed_pictures_are_refused(tmp_path: Path):
    write_pictures(tmp_path / 'a', 'x.png')
    sets = DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    write_pictures(tmp_path / 'a', 'x.png', 'y.png')
    with pytest.raises(CompSRTError, match=r'The pictures of `Set5` are not those that .* was made of'):
        sets.ready({2})


def test_changed_pictures_of_the_same_names_are_refused(tmp_path: Path):
    """The fingerprint of an LMDB knows names and sizes only: pixels of another folder would go unnoticed."""
    write_pictures(tmp_path / 'a', 'x.png')
    write_pictures(tmp_path / 'b', 'other.png', 'x.png')
    (tmp_path / 'b' / 'other.png').unlink()
    DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out').ready({2})
    with pytest.raises(CompSRTError, match=r'The pictures of `Set5` are not those'):
        DataSets({'Set5': 'b'}, tmp_path, tmp_path / 'out').ready({2})


def test_moved_pictures_are_the_same(tmp_path: Path):
    write_pictures(tmp_path / 'a', 'x.png')
    DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out').ready({2})
    (tmp_path / 'a').rename(tmp_path / 'moved')
    sets = DataSets({'Set5': 'moved'}, tmp_path, tmp_path / 'out')
    sets.ready({2, 4})  # x4 is made of the links, which must lead to the new place
    assert keys(sets.pair('Set5', 4).gt) == ['x']


def test_pictures_of_one_name_in_folders_of_one_name_are_all_taken(tmp_path: Path):
    write_pictures(tmp_path / 'a/HR', 'x.png', 'y.png')
    write_pictures(tmp_path / 'b/HR', 'x.png')
    sets = DataSets({'train': ['a/HR', 'b/HR']}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    assert keys(sets.pair('train', 2).gt) == ['a_HR_x', 'a_HR_y', 'b_HR_x']


def test_names_that_run_together_are_refused(tmp_path: Path):
    write_pictures(tmp_path / 'a_b', 'c.png')
    write_pictures(tmp_path / 'a', 'b_c.png')
    with pytest.raises(CompSRTError, match='Folders and names of pictures run together'):
        DataSets({'train': ['a_b', 'a']}, tmp_path, tmp_path / 'out').check({2})


def test_a_bad_picture_can_be_left_out(tmp_path: Path):
    write_pictures(tmp_path / 'a', 'x.png', 'y.png')
    (tmp_path / 'a' / 'z.png').write_bytes(b'no picture')
    with pytest.raises(CompSRTError, match=r'The data set `Set5`: 1 of 3 pictures cannot be used; .*\n  z\.png'):
        DataSets({'Set5': 'a'}, tmp_path, tmp_path / 'out').ready({2})
    sets = DataSets({'Set5': 'a/[xy].png'}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    assert keys(sets.pair('Set5', 2).gt) == ['x', 'y']


def test_sets_whose_names_begin_alike_are_apart(tmp_path: Path):
    write_pictures(tmp_path / 'a', 'x.png')
    write_pictures(tmp_path / 'b', 'x.png', 'y.png')
    sets = DataSets({'Photos_crop': 'a', 'Photos': 'b'}, tmp_path, tmp_path / 'out')
    sets.ready({2})
    assert keys(sets.pair('Photos', 2).gt) == ['x', 'y']


def test_given_lmdbs(tiny_lmdb: LmdbPair, tmp_path: Path):
    sets = DataSets({'Set5': {'gt': str(tiny_lmdb.hr), 'lq': str(tiny_lmdb.lr)}}, tmp_path, tmp_path / 'out')
    sets.check({2})
    assert sets.pair('Set5', 2).options()['dataroot_lq'] == str(tiny_lmdb.lr)
    placed = DataSets({'Set5': {'gt': 'x{scale}/a.lmdb', 'lq': 'x{scale}/b.lmdb'}}, tmp_path, tmp_path / 'out')
    assert placed.pair('Set5', 3).gt == tmp_path.resolve() / 'x3/a.lmdb'


@pytest.mark.parametrize(
    ('value', 'sentence'),
    [
        ('nowhere/*.png', 'The data set `Set5`: no picture matches `'),
        ({'gt': 'a.lmdb', 'lq': 'b.lmdb'}, 'a.lmdb` is no LMDB; check the path (it starts at --data).'),
        ({'gt': 'a.lmdb'}, '`datasets.Set5` must name the LMDBs `gt` and `lq`, or pictures'),
        ([], '`datasets.Set5` must be a folder of pictures, a pattern, or a list of them'),
        (5, '`datasets.Set5` must be a folder of pictures, a pattern, or a list of them'),
    ],
)
def test_faults(tmp_path: Path, value, sentence):
    with pytest.raises(CompSRTError) as caught:
        DataSets({'Set5': value}, tmp_path, tmp_path / 'out').check({2})
    assert sentence in str(caught.value)
