"""The LMDB writer: growth, atomic batches, full disks, meta_info.txt."""

import errno
import mmap
import shutil

import cv2
import lmdb
import numpy as np
import pytest

from compsrt_basicsr.data.lmdb_writer import LmdbWriter, encode_png, png_shape
from compsrt_basicsr.errors import CompSRTError


class FailingEnv:
    """Stands in for an LMDB environment that cannot be written."""

    def __init__(self, error):
        self.error = error

    def begin(self, write=False):
        raise self.error

    def close(self):
        pass


def test_the_map_grows_as_needed(tmp_path):
    values = {f'k{i}': bytes([i]) * 30_000 for i in range(20)}
    with LmdbWriter(tmp_path / 'a.lmdb', map_size=2**16) as writer:
        for key, value in values.items():
            writer.put(key, value)
        writer.commit()
        assert writer.map_size >= 600_000
        assert len(writer) == 20
    with lmdb.open(str(tmp_path / 'a.lmdb'), readonly=True) as env, env.begin() as txn:
        assert {key.decode(): value for key, value in txn.cursor()} == values


def test_uncommitted_entries_are_dropped_and_committed_ones_stay(tmp_path):
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        writer.put('one', b'1')
        writer.commit()
        assert writer.pending_bytes == 0
        writer.put('two', b'22')
        assert writer.pending_bytes == 2
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        assert writer.keys() == {'one'}


@pytest.mark.parametrize('error,free', [(lmdb.DiskError('full'), 10**9), (lmdb.Error('Input/output error'), 0)])
def test_a_full_disk_is_reported_as_such_and_keeps_the_batch(tmp_path, monkeypatch, error, free):
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        writer.put('one', b'1')
        real = writer._env
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**9, 10**9 - free, free))
        monkeypatch.setattr(writer, '_env', FailingEnv(error))
        with pytest.raises(OSError) as caught:
            writer.commit()
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(tmp_path / 'a.lmdb')
        monkeypatch.setattr(writer, '_env', real)
        writer.commit()
        assert writer.keys() == {'one'}


def test_other_write_errors_name_the_lmdb(tmp_path, monkeypatch):
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        writer.put('one', b'1')
        with monkeypatch.context() as patch:
            patch.setattr(writer, '_env', FailingEnv(lmdb.Error('broken')))
            with pytest.raises(CompSRTError, match=r'a\.lmdb.*broken'):
                writer.commit()


def test_a_damaged_lmdb_is_named_with_the_remedy(tmp_path):
    (tmp_path / 'a.lmdb').mkdir()
    (tmp_path / 'a.lmdb/data.mdb').write_bytes(b'\x01' * 10_000)
    with pytest.raises(CompSRTError, match=r'a\.lmdb.*--restart'):
        LmdbWriter(tmp_path / 'a.lmdb')


def test_meta_info_has_basicsrs_lines(tmp_path):
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        writer.put('b_s001', encode_png(np.zeros((4, 6, 3), np.uint8)))
        writer.put('a_s001', encode_png(np.zeros((5, 7), np.uint8)))
        writer.commit()
        writer.write_meta_info()
    assert (tmp_path / 'a.lmdb/meta_info.txt').read_text() == 'a_s001.png (5,7,1) 1\nb_s001.png (4,6,3) 1\n'


@pytest.mark.parametrize('shape', [(3, 5), (3, 5, 3)])
def test_png_keeps_pixels_and_tells_its_shape(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = encode_png(pixels)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert png_shape(data) == (*shape, 1)[:3]


@pytest.mark.parametrize('size', [0, 100, mmap.PAGESIZE])
def test_a_data_file_that_a_full_disk_cut_short_is_made_again(tmp_path, size):
    """LMDB would take it for a foreign file."""
    (tmp_path / 'a.lmdb').mkdir()
    (tmp_path / 'a.lmdb/data.mdb').write_bytes(bytes(size))
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        writer.put('one', b'1')
        writer.commit()
        assert writer.keys() == {'one'}
    # no sparse lock file, whose first use is a bus error where the disk is full
    assert [path.name for path in (tmp_path / 'a.lmdb').iterdir()] == ['data.mdb']
