"""What `compsrt data check` finds: nothing in a sound data set, and each way in which one can be broken."""

from __future__ import annotations

import re
import shutil

import data_sets
import lmdb
import pytest

from compsrt_basicsr.data.catalog import parse_catalog
from compsrt_basicsr.data.check import asked_or_present, check
from compsrt_basicsr.data.get import ensure

FILES = data_sets.archives()
CATALOG = parse_catalog(data_sets.catalog_text('https://example.org/', FILES), 'test')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A benchmark and a training set, complete."""
    root = tmp_path_factory.mktemp('made')
    for name in ('big.zip', 'bench.tar.gz'):
        (root / name).write_bytes(FILES[name])
    ensure(['Five'], root / 'out', (2, 3), source=root / 'bench.tar.gz', catalog=CATALOG)
    ensure(['Big'], root / 'out', (2, 3), source=root / 'big.zip', catalog=CATALOG)
    return root / 'out'


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made, tmp_path / 'out')


def change(path, key, edit):
    """Replaces an entry of an LMDB by what `edit` makes of it; None removes it."""
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        value = edit(txn.get(key))
        txn.delete(key) if value is None else txn.put(key, value)


@pytest.mark.parametrize('name', ['Big', 'Five'])
@pytest.mark.parametrize('deep', [False, True])
def test_a_sound_data_set(out, name, deep):
    report = check(CATALOG[name], out, (2, 3), deep=deep)
    assert report.complete and report.there and report.kept
    assert list(report.pairs) == [2, 3]
    assert asked_or_present(CATALOG[name], out, (2, 3, 4), asked=False) == [2, 3]
    assert asked_or_present(CATALOG[name], out, (4, 2, 4), asked=True) == [2, 4]


def test_what_is_missing(out):
    report = check(CATALOG['Five'], out, (2, 4))
    assert (list(report.pairs), report.missing, report.complete) == ([2], (4,), False)
    shutil.rmtree(out / 'Five/HR')
    report = check(CATALOG['Five'], out, (2, 3))
    assert report.complete and not report.kept, 'images are not needed once the LMDBs are there'
    report = check(CATALOG['Grey'], out, (2,))
    assert (report.there, report.missing) == (False, (2,))


def test_images_that_changed(out):
    folder = out / 'Five/HR'
    data = bytearray((folder / 'bird.png').read_bytes())
    data[-30] ^= 1
    (folder / 'bird.png').write_bytes(data)
    assert check(CATALOG['Five'], out, ()).complete, 'sizes alone do not tell'
    assert check(CATALOG['Five'], out, (), deep=True).image_errors == ('has a changed bird.png',)
    (folder / 'bird.png').unlink()
    (folder / 'new.png').write_bytes(b'')
    assert check(CATALOG['Five'], out, ()).image_errors == ('lacks bird.png', 'also has new.png')
    (out / 'Five/pictures.json').unlink()
    assert check(CATALOG['Five'], out, ()).complete, 'the right number is all that is known'
    (bad,) = [error for error in check(CATALOG['Five'], out, (), deep=True).image_errors if 'new.png' in error]
    assert bad.startswith('has new.png, which is no image')
    shutil.copy(folder / 'head.png', folder / 'more.png')
    assert check(CATALOG['Five'], out, ()).image_errors == ('holds 3 images, not 2',)
    for path in folder.iterdir():
        path.unlink()
    assert check(CATALOG['Five'], out, ()).image_errors == ('holds no image',)


@pytest.mark.parametrize('record', ['', '{', '[]', '{"format": 2}', '{"format": 1, "pictures": {"a": 1}}'])
def test_a_record_that_cannot_be_read_is_none(out, record):
    (out / 'Five/pictures.json').write_text(record)
    assert check(CATALOG['Five'], out, (2,)).complete


@pytest.mark.parametrize(
    ('edit', 'error'),
    [
        (lambda value: None, 'differ in 1 key, the first is `bird`'),
        (lambda value: value[:-30], '`bird` in .* cannot be decoded'),
        (lambda value: value[:200] + bytes([value[200] ^ 1]) + value[201:], '`bird` in .* cannot be decoded'),
        (lambda value: b'', '`bird` in .* cannot be decoded'),
        (lambda value: data_sets.image(0, 15, 20, 3), r'has the shape \(15, 20, 3\), not \(15, 21, 3\)'),
    ],
    ids=['removed', 'cut', 'flipped', 'empty', 'another'],
)
def test_entries_that_are_corrupt(out, edit, error):
    change(out / 'Five/x2/Five_LRx2.lmdb', b'bird', edit)
    report = check(CATALOG['Five'], out, (2, 3), deep=True)
    assert list(report.pairs) == [3]
    ((scale, (sentence,)),) = report.corrupt.items()
    assert scale == 2
    assert re.search(error, sentence), sentence


def test_pairs_that_do_not_fit(out):
    shutil.rmtree(out / 'Five/x2/Five_LRx2.lmdb')
    shutil.copytree(out / 'Five/x3/Five_LRx3.lmdb', out / 'Five/x2/Five_LRx2.lmdb')
    (sentence,) = check(CATALOG['Five'], out, (2,)).corrupt[2]
    assert '`bird` has 42x30 pixels in' in sentence and 'and 14x10 in' in sentence
    shutil.rmtree(out / 'Big/Big_LRx2_sub.lmdb')
    shutil.copytree(out / 'Five/x3/Five_LRx3.lmdb', out / 'Big/Big_LRx2_sub.lmdb')
    assert 'differ in 20 keys, the first is `0000_s001`' in check(CATALOG['Big'], out, (2,)).corrupt[2][0]


def test_images_that_lmdbs_lack(out):
    for name in ('Five_HR', 'Five_LRx2'):
        path = out / f'Five/x2/{name}.lmdb'
        change(path, b'bird', lambda value: None)
        text = (path / 'meta_info.txt').read_text()
        (path / 'meta_info.txt').write_text(text.split('\n', 1)[1])
    (sentence,) = check(CATALOG['Five'], out, (2,)).corrupt[2]
    assert sentence.endswith('Five_HR.lmdb` has 1 image, Five has 2.')


@pytest.mark.parametrize(
    ('name', 'text', 'error'),
    [
        ('meta_info.txt', 'bird.png\n', 'Line 1 of'),
        ('meta_info.txt', '', 'has no meta_info.txt or an empty one'),
        ('data.mdb', 'x' * 9000, 'cannot be opened'),
    ],
)
def test_files_that_are_damaged(out, name, text, error):
    (out / 'Five/x2/Five_HR.lmdb' / name).write_text(text)
    (sentence,) = check(CATALOG['Five'], out, (2,)).corrupt[2]
    assert error in sentence


def test_a_truncated_lmdb(out):
    path = out / 'Five/x2/Five_HR.lmdb/data.mdb'
    path.write_bytes(path.read_bytes()[:8192])
    (sentence,) = check(CATALOG['Five'], out, (2,)).corrupt[2]
    assert 'is truncated' in sentence
