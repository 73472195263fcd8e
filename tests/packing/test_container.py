"""The container: readable by safetensors itself, the same bytes each time, every flipped byte found."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing import container

ARRAYS = {
    'a': np.arange(5, dtype=np.float32),
    'b': np.array([1, 2], dtype=np.float16),
    'c': np.arange(7, dtype=np.uint8),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(container.to_bytes({'note': 'ä'}, ARRAYS))
    return path


def test_round_trip(file):
    metadata, arrays, size = container.read(file)
    assert metadata['note'] == 'ä' and size == file.stat().st_size
    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[k], v) and arrays[k].dtype == v.dtype for k, v in ARRAYS.items())
    assert file.read_bytes() == container.to_bytes({'note': 'ä'}, ARRAYS)


def test_safetensors_reads_it(file):
    with safe_open(file, 'np') as opened:
        assert opened.metadata()['format'] == 'compsrt-packed'
        assert all(np.array_equal(opened.get_tensor(name), array) for name, array in ARRAYS.items())


def test_every_flipped_byte_and_every_cut_is_found(file, tmp_path):
    data = file.read_bytes()
    bad = tmp_path / 'bad.safetensors'
    for position in range(len(data)):
        for flip in (1, 32, 255):
            bad.write_bytes(data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :])
            with pytest.raises(CompSRTError, match=r'bad\.safetensors'):
                container.read(bad)
    for length in range(len(data)):
        bad.write_bytes(data[:length])
        with pytest.raises(CompSRTError, match=r'bad\.safetensors'):
            container.read(bad)
    bad.write_bytes(data + b'\0')
    with pytest.raises(CompSRTError, match='truncated, altered or foreign'):
        container.read(bad)


def with_header(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text


OURS = {'format': 'compsrt-packed', 'version': '1', 'sha256': '0' * 64}


@pytest.mark.parametrize(
    ('data', 'text'),
    [
        (b'', 'truncated'),
        (b'\xff' * 8, 'truncated'),
        ((2**20 + 1).to_bytes(8, 'little') + b' ' * 100, 'truncated'),
        (with_header(b'{"a":'), 'truncated'),
        (with_header(b'\xff\xfe{}'), 'truncated'),
        (with_header(b'[' * 100_000), 'truncated'),
        (with_header([]), 'truncated'),
        (with_header({}), 'not a packed file: make one with `compsrt pack`'),
        (with_header({'__metadata__': 3}), 'not a packed file'),
        (with_header({'__metadata__': {'format': 'pt'}}), 'not a packed file'),
        (with_header({'__metadata__': {**OURS, 'version': '2'}}), "format version '2', this program reads 1"),
        *[
            (with_header({'__metadata__': OURS, 'a': entry}), 'truncated')
            for entry in (
                None,
                {},
                {'dtype': 'F32', 'shape': [2**60], 'data_offsets': [0, 2**62]},
                {'dtype': 'F32', 'shape': [1], 'data_offsets': [-4, 0]},
                {'dtype': 'F32', 'shape': [1], 'data_offsets': [4, 8]},
                {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 4]},
                {'dtype': 'F32', 'shape': [1.0], 'data_offsets': [0, 4]},
                {'dtype': 'F32', 'shape': [True], 'data_offsets': [0, 4]},
                {'dtype': 'F32', 'shape': [1, 1], 'data_offsets': [0, 4]},
                {'dtype': 'F99', 'shape': [1], 'data_offsets': [0, 4]},
                {'dtype': ['F32'], 'shape': [1], 'data_offsets': [0, 4]},
                {'dtype': 'U8', 'shape': [0], 'data_offsets': [0, 0]},
            )
        ],
    ],
)
def test_hostile_headers(tmp_path, data, text):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(data)
    with pytest.raises(CompSRTError, match=text):
        container.read(path)


def test_arrays_must_not_overlap(tmp_path):
    entry = {'dtype': 'U8', 'shape': [4], 'data_offsets': [0, 4]}
    path = tmp_path / 'x.safetensors'
    path.write_bytes(with_header({'__metadata__': OURS, 'a': entry, 'b': entry}) + b'1234')
    with pytest.raises(CompSRTError, match='truncated'):
        container.read(path)
