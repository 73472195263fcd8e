"""`compsrt pack`, `unpack` and `size`: what they print, what they refuse, and that nothing is left half-written."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny_networks import pictures, tiny_quantized, tiny_swinir

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.cli.pack import CODECS
from compsrt_basicsr.packing import codecs

PACKED = 'swinir_light_x2_house_w2a2'


def compsrt(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'net.pth'
    torch.save({'params': tiny_quantized().state_dict()}, path)
    return path


def test_there_and_back(checkpoint, tmp_path):
    packed, back = tmp_path / 'net.safetensors', tmp_path / 'back.pth'
    result = compsrt('pack', checkpoint, '-o', packed, '--codec', 'plain', '--rest', 'fp32')
    assert result.exit_code == 0, result.output
    assert f'{packed.stat().st_size:,} bytes' in result.output
    result = compsrt('unpack', packed, '-o', back)
    assert result.exit_code == 0 and 'with the same codes' in result.output
    with torch.no_grad():
        outputs = [load_network(path).network(pictures()) for path in (checkpoint, packed, back)]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def test_size_prints_a_table_for_each_file(checkpoint, tmp_path):
    packed = tmp_path / 'net.safetensors'
    compsrt('pack', checkpoint, '-o', packed)
    torch.save({'params': tiny_swinir().state_dict()}, tmp_path / 'full.pth')
    result = compsrt('size', packed, checkpoint, tmp_path / 'full.pth')
    assert result.exit_code == 0, result.output
    totals = [line.split() for line in result.output.splitlines() if line.startswith('total')]
    sizes = [path.stat().st_size for path in (packed, checkpoint, tmp_path / 'full.pth')]
    assert [row[4] for row in totals] == [f'{size:,}' for size in sizes]
    assert 'codec rans, rest in fp16' in result.output and 'recomputable buffers' in result.output
    assert 'b = 4, nothing pruned; by the paper b = 4.00 bits for a quantized weight.' in result.output


def test_size_counts_the_tensors_that_exceed_their_bits(tmp_path):
    network = tiny_quantized({'code_range': 'paper', 'transform': 'padded'})
    torch.save({'params': network.state_dict()}, tmp_path / 'calibrated.pth')
    quantizer = network.layers[0].residual_group.blocks[0].mlp.fc2.weight_quantizer
    quantizer.scale_offset.copy_(-0.5 * quantizer.grid()[0])
    torch.save({'params': network.state_dict()}, tmp_path / 'trained.pth')
    assert 'levels' not in compsrt('size', tmp_path / 'calibrated.pth').output
    result = compsrt('size', tmp_path / 'trained.pth')
    codes, wide = 2 * (12 * 16 * 4 + 24 * 16 + 12 * 32), 12 * 32
    assert '1 of 12 weight tensors' in result.output and '2^b = 16' in result.output
    assert f'{4 + wide / codes:.2f} bits' in result.output
    assert compsrt('pack', tmp_path / 'calibrated.pth', '-o', tmp_path / 'c').exit_code == 0
    assert compsrt('pack', tmp_path / 'trained.pth', '-o', tmp_path / 't').exit_code == 1


@pytest.mark.parametrize(
    ('words', 'text'),
    [
        (('pack', 'net.pth', '-o', 'net.pth'), '`net.pth` exists: give another name, or --force'),
        (('pack', 'net.pth', '-o', 'nowhere/x'), 'folder `nowhere` does not exist'),
        (('pack', 'net.pth', '-o', 'x', '--codec', 'mask'), 'not pruned: use `rans` or `plain`'),
        (('pack', 'full.pth', '-o', 'x'), 'not quantized'),
        (('pack', 'nothing.pth', '-o', 'x'), 'does not exist'),
        (('unpack', 'net.pth', '-o', 'x.pth'), 'truncated, altered or foreign'),
        (('unpack', 'nothing', '-o', 'x.pth'), 'no model `nothing`'),
        (('unpack', 'cut.safetensors', '-o', 'x.pth'), 'truncated, altered or foreign'),
        (('unpack', 'cut.safetensors', '-o', 'x.safetensors'), 'call it `x.pth`'),
        (('size', 'cut.safetensors'), 'truncated'),
        (('size', 'text.safetensors'), 'not a safetensors file'),
    ],
)
def test_faults_are_a_sentence_and_write_nothing(checkpoint, tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    compsrt('pack', 'net.pth', '-o', 'whole.safetensors')
    (tmp_path / 'cut.safetensors').write_bytes((tmp_path / 'whole.safetensors').read_bytes()[:-9])
    (tmp_path / 'text.safetensors').write_text('hello')
    torch.save({'params': tiny_swinir().state_dict()}, tmp_path / 'full.pth')
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = compsrt(*words)
    assert result.exit_code == 1 and text in result.output and result.output.startswith('Error: ')
    assert result.output.count('\n') == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    'words',
    [
        ('size', PACKED),
        ('pack', PACKED, '-o', 'x'),
        ('unpack', PACKED, '-o', 'x.pth'),
        ('upscale', PACKED, 'lq', '-o', PACKED),
    ],
)
def test_names_of_the_zoo_and_folders_that_are_called_like_them(tmp_path, monkeypatch, words):
    """The second time, the results of the first lie in a folder of that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / PACKED).mkdir()
    (tmp_path / 'lq').mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save('lq/a.png')
    result = compsrt(*words)
    assert result.exit_code == 0, result.output


def test_force_replaces(checkpoint, tmp_path):
    out = tmp_path / 'x'
    out.write_text('old')
    assert compsrt('pack', checkpoint, '-o', out, '--force').exit_code == 0
    assert load_network(out).kind == 'quantized'


def test_zstd_is_no_longer_written(checkpoint, tmp_path):
    result = compsrt('pack', checkpoint, '-o', tmp_path / 'x', '--codec', 'zstd')
    assert result.exit_code == 2 and 'use rans' in result.output and not (tmp_path / 'x').exists()


def test_command_offers_all_codecs():
    """It spells them out so that `--help` need not import torch."""
    assert CODECS == codecs.CODECS
