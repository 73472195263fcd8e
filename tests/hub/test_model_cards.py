"""Every packaged model has a card whose size, checksum and origin are the file's."""

import hashlib
import json
import re
import struct
from pathlib import Path

import pytest

from compsrt_basicsr.checkpoints.describe import card_rows
from compsrt_basicsr.checkpoints.find import find_file
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.hub.card import render_card
from compsrt_basicsr.hub.catalog import PACKAGE
from compsrt_basicsr.hub.index import read_index

ENTRIES = {name: entry for name, entry in read_index(PACKAGE).items() if not entry.urls}
PACKAGED = list(ENTRIES)
TEACHERS = [name for name, entry in ENTRIES.items() if entry.kind == 'teacher']


def card(name: str) -> str:
    return find_file(f'zoo://{name}').with_suffix('.md').read_text(encoding='utf-8')


def metadata(file: Path) -> dict[str, str]:
    """The `__metadata__` of a safetensors file: an 8-byte length, then JSON."""
    data = file.read_bytes()
    (length,) = struct.unpack('<Q', data[:8])
    return json.loads(data[8 : 8 + length])['__metadata__']


@pytest.mark.parametrize('name', PACKAGED)
def test_card_tells_size_checksum_and_parameters(name: str):
    file, text, entry = find_file(f'zoo://{name}'), card(name), read_index(PACKAGE)[name]
    assert (entry.size, entry.sha256) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    assert text.startswith(f'# {name}\n')
    assert f'| size | {file.stat().st_size:,} bytes |' in ' '.join(text.split())
    assert f'| SHA-256 | `{hashlib.sha256(file.read_bytes()).hexdigest()}` |' in ' '.join(text.split())
    parameters = sum(p.numel() for p in load_network(file).network.parameters())
    assert f'{parameters:,}' in text


@pytest.mark.parametrize('name', TEACHERS)
def test_card_names_the_checkpoint_that_was_packed(name: str):
    assert (
        re.search(r'from the fp32 checkpoint with SHA-256 `(\w+)`', card(name))[1]
        == (metadata(find_file(f'zoo://{name}'))['source_sha256'])
    )


def test_a_quantized_card_is_the_one_that_its_entry_gives():
    for name, entry in ENTRIES.items():
        if entry.kind != 'teacher':
            assert card(name) == render_card(entry, card_rows(load_network(f'zoo://{name}')))
