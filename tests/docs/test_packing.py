"""docs/packing.md: its commands print what it shows, its table is the record's, its decoder decodes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny_networks import tiny_quantized

from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.packing import container
from compsrt_basicsr.packing.packed import save_packed

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'packing.md').read_text(encoding='utf-8')
sys.path.insert(0, str(ROOT / 'scripts'))


def test_table_is_that_of_the_record():
    size_table = pytest.importorskip('size_table')  # needs scikit-image
    record = json.loads((ROOT / 'docs' / 'results' / 'size.json').read_text())
    assert size_table.fill(PAGE, {'size table': size_table.table(record)}) == PAGE


def test_record_keeps_what_the_page_promises():
    """x4 W4A4: at most 0.87 MB plain and 0.78 MB by rANS; loading within a second."""
    rows = json.loads((ROOT / 'docs' / 'results' / 'size.json').read_text())['rows']
    sizes = {row['codec']: row['bytes'] for row in rows if row['bits'] == 4 and not row['pruned']}
    assert sizes['plain'] <= 870_000 and sizes['rans'] <= 780_000
    assert all(row['load_seconds'] < 1 for row in rows)
    assert all(sum(row['parts'].values()) == row['bytes'] for row in rows)


def without_numbers(text: str) -> str:
    """Calibration may differ in its last bits from one processor to the next, and with it a few bytes."""
    return re.sub(r'[\s-]+', ' ', re.sub(r'\d[\d,.]*', '#', text)).strip()


@pytest.mark.integration
def test_commands_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    size_table = pytest.importorskip('size_table')
    monkeypatch.chdir(tmp_path)
    torch.save({'params': size_table.network(4, 0.0).state_dict()}, 'compsrt_x4_w4a4.pth')
    blocks = re.findall(r'^```console\n(.*?)^```$', PAGE, re.M | re.S)
    for command, shown in re.findall(r'^\$ compsrt (.*)\n((?:(?!\$).*\n)*)', ''.join(blocks), re.M):
        if 'cut.safetensors' in command:
            Path('cut.safetensors').write_bytes(Path('compsrt_x4_w4a4.safetensors').read_bytes()[:-100])
        result = CliRunner().invoke(main, command.split())
        assert without_numbers(result.output) == without_numbers(shown), command


def decode_as_described(words: list[int], tables: list[list[int]], counts: list[int]) -> list[int]:
    """The decoder of the page, in Python's whole numbers."""
    state = words.pop()
    if words:
        state = (state << 32) + words.pop()
    codes = []
    for table, count in zip(tables, counts):
        for _ in range(count):
            low, code, start = state % 2**24, 0, 0
            while start + (table[code] << 8) <= low:
                start += table[code] << 8
                code += 1
            codes.append(code)
            state = (state >> 24) * (table[code] << 8) + low - start
            if state < 2**32 and words:
                state = (state << 32) + words.pop()
    assert (state, words) == (0, [])
    return codes


def test_described_decoder_decodes(tmp_path: Path):
    network = tiny_quantized({'weight_bits': 3})
    save_packed(network, tmp_path / 'x')
    _, arrays, _ = container.read(tmp_path / 'x')
    layers = [m for m in network.modules() if hasattr(m, 'weight_codes')]
    blocks = [block for m in layers for block in m.weight_codes().chunk(len(m.weight_quantizers()))]
    tables = arrays['tables'].reshape(-1, 8).tolist()
    codes = decode_as_described(arrays['codes'].tolist(), tables, [block.numel() for block in blocks])
    assert codes == torch.cat([block.flatten() for block in blocks]).tolist()
