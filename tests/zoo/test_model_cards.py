"""Every packaged model has a card whose size, checksum and origin are the file's."""

import hashlib
import json
import re
import struct
from pathlib import Path

import pytest

from compsrt_basicsr.zoo.catalog import PACKAGE
from compsrt_basicsr.zoo.index import read_index
from compsrt_basicsr.zoo.weights import read_weights, resolve

PACKAGED = [name for name, entry in read_index(PACKAGE).items() if not entry.urls]


def card(name: str) -> str:
    return resolve(f'zoo://{name}').with_suffix('.md').read_text(encoding='utf-8')


def metadata(file: Path) -> dict[str, str]:
    """The `__metadata__` of a safetensors file: an 8-byte length, then JSON."""
    data = file.read_bytes()
    (length,) = struct.unpack('<Q', data[:8])
    return json.loads(data[8 : 8 + length])['__metadata__']


@pytest.mark.parametrize('name', PACKAGED)
def test_card_tells_size_checksum_and_parameters(name: str):
    file, text, entry = resolve(f'zoo://{name}'), card(name), read_index(PACKAGE)[name]
    assert (entry.size, entry.sha256) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    assert text.startswith(f'# {name}\n')
    assert f'| size | {file.stat().st_size:,} bytes |' in text
    assert f'| SHA-256 | `{hashlib.sha256(file.read_bytes()).hexdigest()}` |' in text
    assert f'{sum(value.numel() for value in read_weights(file).values()):,} parameters' in text


@pytest.mark.parametrize('name', PACKAGED)
def test_card_names_the_checkpoint_that_was_packed(name: str):
    assert (
        re.search(r'from the fp32 checkpoint with SHA-256 `(\w+)`', card(name))[1]
        == (metadata(resolve(f'zoo://{name}'))['source_sha256'])
    )
