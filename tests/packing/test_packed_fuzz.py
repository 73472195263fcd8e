"""Structured fuzzing of packed files with a right checksum: each loads and upscales, or is refused in a sentence."""

import hashlib
import json
import re
import resource
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_networks import TINY, ready, tiny_edsr, tiny_quantized

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.size import measure_size
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.upscale import upscale
from compsrt_basicsr.packing import container
from compsrt_basicsr.packing.packed import save_packed

SECONDS, MEBIBYTES = 10, 400  # far below what these files took when nothing but the checksum bounded them
EXTREMES = [
    *[
        None,
        True,
        False,
        '',
        'x',
        '\ud800',
        '\x1b[2J',
        'ä' * 600,
        'EDSR',
        'SwinIR',
        '2:4',
        'padded',
        'integer',
        'channel',
    ],
    *[float('nan'), float('inf'), 1e300, 5e-324, -0.0, 0.5, 1.5, 0, 1, -1, 2, 3, 4, 5, 7, 8, 10, 16, 64, 255, 1000],
    *[4096, 16384, 2**31, 2**32, 2**63, 10**30, 10**400],
    *[[], {}, [[]], [0] * 2000, [1, 2], [4, 4, 4, 4], [4096] * 1000, {'type': 'EDSR'}, [None], ['*'] * 2000],
]
NEW_KEYS = ['x', 'type', 'base', 'quant', 'upscale', 'scale', 'img_range', 'qk_scale', 'ape', 'img_size', 'patch_size']


def places(value, path=()):
    """All places of a JSON value, from the outside in."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


def mutated(value, noise):
    """The value with one to three places replaced, nudged, swapped, removed, doubled or repeated."""
    for _ in range(noise.randint(1, 3)):
        value = json.loads(json.dumps(value))  # a tree: nothing in it is shared
        *path, last = noise.choice(list(places(value))[1:] or [('',)])
        owner = value
        for key in path:
            owner = owner[key]
        if last == '':
            continue
        how = noise.choice(['replace', 'nudge', 'nudge', 'swap', 'swap', 'remove', 'double', 'repeat'])
        if how == 'nudge' and type(owner[last]) in (int, float):
            owner[last] = noise.choice([owner[last] + 1, owner[last] - 1, owner[last] * 2, owner[last] // 2])
        elif how == 'swap' and len(owner) > 1:
            other = noise.choice(list(owner) if isinstance(owner, dict) else range(len(owner)))
            owner[last], owner[other] = owner[other], owner[last]
        elif how in ('replace', 'nudge', 'swap'):
            owner[last] = noise.choice(EXTREMES)
        elif how == 'remove':
            del owner[last]
        elif isinstance(owner, list):
            owner.extend([owner[last]] * (1 if how == 'double' else 10_000))
        else:
            owner[noise.choice(NEW_KEYS)] = noise.choice([owner[last], *EXTREMES])
    return value


def signed(path, metadata, arrays):
    kept = {key: value for key, value in metadata.items() if key not in ('format', 'version', 'sha256')}
    path.write_bytes(container.to_bytes(kept, arrays))


def swinir_net():
    torch.manual_seed(0)
    return ready(CompSRTNet({'type': 'SwinIR', **TINY, 'img_range': 1.0, 'qk_scale': None}, {}))


NETWORKS = {
    'edsr': (tiny_edsr, 'rans'),
    'swinir': (tiny_quantized, 'plain'),
    'swinir net': (swinir_net, 'plain'),
    'pruned': (lambda: tiny_edsr(prune_ratio=0.4), 'mask'),
}
GOLDEN = ('zstd', 'rans_paper')


class Files:
    """The files that are mutated, and a path for the results; without the long repr of a dictionary."""

    def __init__(self, folder):
        self.path, self.contents = folder / 'bad.safetensors', {}
        for name, (make, codec) in NETWORKS.items():
            save_packed(make(), self.path, codec)
            self.contents[name] = container.read(self.path)[:2]
        golden = Path(__file__).parent / 'golden'
        for name in GOLDEN:
            self.contents[name] = container.read(golden / f'{name}.safetensors')[:2]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp('fuzz'))


def check(path):
    """Loads and upscales, or raises CompSRTError with one short line, within bounds of time and memory."""
    start, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = 'upscaled'
    try:
        loaded = load_network(path)
        side = max(loaded.multiple, 9)
        image = np.zeros((side, side, loaded.channels), np.uint8)
        if loaded.channels in (1, 3):
            assert upscale(loaded, image).shape[:2] == (side * loaded.scale,) * 2
    except CompSRTError as error:
        outcome = str(error)
    try:
        measure_size(path)
    except CompSRTError as error:
        outcome = str(error) if outcome == 'upscaled' else outcome
    assert '\n' not in outcome and len(outcome) < 2000 and outcome.isprintable(), outcome[:3000]
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEBIBYTES * 2**10
    return outcome


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize('name', [*NETWORKS, *GOLDEN])
@FUZZ
@given(noise=st.randoms(use_true_random=True))
def test_mutated_index(files, name, noise):
    path, (metadata, arrays) = files.path, files.contents[name]
    index = json.loads(zlib.decompress(arrays['index'].tobytes()))
    text = json.dumps(mutated(index, noise)).encode()
    signed(path, metadata, {**arrays, 'index': np.frombuffer(zlib.compress(text), np.uint8)})
    check(path)


@pytest.mark.parametrize('name', NETWORKS)
@FUZZ
@given(noise=st.randoms(use_true_random=True))
def test_mutated_record(files, name, noise):
    path, (metadata, arrays) = files.path, files.contents[name]
    record = json.loads(metadata['record'])
    signed(path, {**metadata, 'record': json.dumps(mutated(record, noise))}, arrays)
    check(path)


@FUZZ
@given(noise=st.randoms(use_true_random=True))
def test_mutated_header(files, noise):
    """Metadata and types of arrays, which the checksum of a hostile file covers too."""
    path, (metadata, arrays) = files.path, files.contents['edsr']
    signed(path, metadata, arrays)
    raw = path.read_bytes()
    length = 8 + int.from_bytes(raw[:8], 'little')
    header = mutated(json.loads(raw[8:length]), noise)
    for entry in header.values() if isinstance(header, dict) else ():
        if isinstance(entry, dict) and 'dtype' in entry and noise.random() < 0.5:
            entry['dtype'] = noise.choice([*container.DTYPES, 'BF16'])
    text = json.dumps(header).encode()
    path.write_bytes(signed_raw(text, raw[length:]))
    check(path)


def signed_raw(text, body):
    """A file with this header, and a right checksum if it has 64 digits for one."""
    text += b' ' * (-len(text) % 8)
    blank = re.sub(rb'("sha256": ")[0-9a-f]{64}', rb'\g<1>' + b'0' * 64, text)
    data = len(blank).to_bytes(8, 'little') + blank + body
    return data.replace(b'0' * 64, hashlib.sha256(data).hexdigest().encode(), 1)
