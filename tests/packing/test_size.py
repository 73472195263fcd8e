"""Accounts of files: parts add up to what `ls` shows, and theory follows the formulas."""

from pathlib import Path

import pytest
import torch
from tiny_networks import tiny_edsr, tiny_quantized, tiny_swinir

from compsrt_basicsr.checkpoints.find import find_file
from compsrt_basicsr.checkpoints.size import measure_size
from compsrt_basicsr.packing.packed import load_packed, save_packed
from compsrt_basicsr.packing.size import BUFFERS, FILE, GRIDS, REST, WEIGHTS, measure_packed
from compsrt_basicsr.quant.layers import quantized_layers

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS_OF_TINY = 2 * (12 * 12 * 4 + 12 * 24 * 2)


def account(path):
    result = measure_size(path)
    assert result.measured == path.stat().st_size
    return result, {part.name: part for part in result.parts}


@pytest.mark.parametrize('codec', ['plain', 'rans'])
@pytest.mark.parametrize(('rest', 'width'), [('fp16', 2), ('fp32', 4)])
def test_packed(tmp_path, codec, rest, width):
    network = tiny_quantized({'weight_bits': 3})
    save_packed(network, tmp_path / 'x', codec, rest)
    result, parts = account(tmp_path / 'x')
    full = sum(p.numel() for p in tiny_swinir().parameters())
    assert (result.parameters, result.bits, result.paper_bits) == (full, 3, 3.0)
    assert parts[WEIGHTS].parameters == WEIGHTS_OF_TINY
    assert parts[WEIGHTS].theoretical == WEIGHTS_OF_TINY * 3 / 8
    assert parts[REST].theoretical == (full - WEIGHTS_OF_TINY) * width
    assert parts[GRIDS].measured == parts[GRIDS].theoretical == 32 * 2 * 4
    if codec == 'plain':
        assert parts[WEIGHTS].measured == parts[WEIGHTS].theoretical
        assert parts[REST].measured == parts[REST].theoretical
    assert codec in result.form and rest in result.form


def test_padded_codes_are_more_than_their_weights(tmp_path):
    """12 and 24 coefficients become 16 and 32 codes."""
    save_packed(tiny_quantized({'code_range': 'paper', 'transform': 'padded'}), tmp_path / 'x', 'plain')
    weights = account(tmp_path / 'x')[1][WEIGHTS]
    assert weights.parameters == WEIGHTS_OF_TINY
    assert weights.theoretical == 2 * (12 * 16 * 4 + 24 * 16 + 12 * 32) * 4 / 8


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_a_checkpoint_that_exceeds_its_bits_is_accounted_with_what_its_codes_need(tmp_path, granularity):
    """A tenth of the step for fc1: up to 151 levels, 8 bits; all others keep their 4."""
    network = tiny_quantized({'code_range': 'paper', 'transform': 'none', 'granularity': granularity})
    for block in network.layers[0].residual_group.blocks:
        quantizer = block.mlp.fc1.weight_quantizer
        quantizer.scale_offset.copy_(-0.9 * quantizer.grid()[0])
        codes = block.mlp.fc1.weight_codes()
        assert 128 <= int(codes.max() - codes.min()) <= 150
    torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
    result, parts = account(tmp_path / 'x.pth')
    needed = WEIGHTS_OF_TINY * 4 + 2 * 12 * 24 * (8 - 4)
    assert (result.bits, result.tensors, result.wide) == (4, 12, 2)
    assert result.width == pytest.approx(needed / WEIGHTS_OF_TINY)
    assert parts[WEIGHTS].theoretical == pytest.approx(needed / 8)


@pytest.mark.parametrize('quant', [{}, {'code_range': 'paper', 'transform': 'padded'}])
def test_calibrated_checkpoints_keep_to_their_bits(tmp_path, quant):
    torch.save({'params': tiny_quantized(quant).state_dict()}, tmp_path / 'x.pth')
    result, _ = account(tmp_path / 'x.pth')
    assert result.wide == 0 and result.width in (0, 4)


@pytest.mark.parametrize('make', [tiny_quantized, tiny_edsr])
def test_checkpoint(tmp_path, make):
    network = make()
    torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
    result, parts = account(tmp_path / 'x.pth')
    assert result.form == 'checkpoint' and result.bits == 4
    assert parts[WEIGHTS].measured == 4 * parts[WEIGHTS].parameters == 8 * parts[WEIGHTS].theoretical
    assert parts[REST].measured == parts[REST].theoretical == 4 * parts[REST].parameters
    assert parts[FILE].measured > 0


def test_equalized_channels_count_in_both_files(tmp_path):
    network = tiny_quantized({'equalize': True})
    save_packed(network, tmp_path / 'x')
    torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
    packed, checkpoint = (account(tmp_path / name)[1][REST] for name in ('x', 'x.pth'))
    assert packed.parameters == checkpoint.parameters
    assert checkpoint.measured == checkpoint.theoretical == 4 * checkpoint.parameters


def test_full_precision_file_with_masks(tmp_path):
    """BasicSR's and the official files: attention masks and position indices weigh the most."""
    network = tiny_swinir()
    torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
    result, parts = account(tmp_path / 'x.pth')
    assert (result.form, result.bits, result.paper_bits) == ('full precision', None, None)
    buffers = [b for name, b in network.named_buffers() if name.endswith(('attn_mask', 'relative_position_index'))]
    assert parts[BUFFERS].measured == sum(b.numel() * b.itemsize for b in buffers) and parts[BUFFERS].theoretical == 0
    assert parts[REST].measured == 4 * result.parameters


def test_house_teacher_in_fp16():
    path = find_file('zoo://swinir_light_x2_house')
    result, parts = account(path)
    assert result.parameters == 910_152 and parts[REST].measured == parts[REST].theoretical == 2 * 910_152


def test_pruned_networks_are_accounted_as_in_the_paper(tmp_path):
    network = tiny_quantized({'prune_ratio': 0.4})
    save_packed(network, tmp_path / 'x', 'mask')
    torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
    for name in ('x', 'x.pth'):
        result, parts = account(tmp_path / name)
        assert result.pruned == pytest.approx(0.4, abs=0.01)
        assert result.paper_bits == pytest.approx(4 * 0.6 + 1, abs=0.04)
        assert parts[WEIGHTS].theoretical == WEIGHTS_OF_TINY * result.paper_bits / 8
    assert account(tmp_path / 'x')[1][WEIGHTS].measured == pytest.approx(parts[WEIGHTS].theoretical, rel=0.02)


@pytest.mark.parametrize('codec', ['plain', 'rans'])
def test_without_a_mask_the_code_of_zero_counts_as_pruned(tmp_path, codec):
    """The share is that of the masks of the network that was loaded."""
    save_packed(tiny_quantized({'prune_ratio': 0.4, 'granularity': 'channel'}), tmp_path / 'x', codec)
    keeps = [layer.keep_mask for layer in quantized_layers(load_packed(tmp_path / 'x')).values()]
    expected = sum(int((~keep).sum()) for keep in keeps) / sum(keep.numel() for keep in keeps)
    assert measure_packed(tmp_path / 'x').pruned == expected > 0.4


def test_the_account_of_a_packed_file_needs_no_torch(tmp_path, run_command):
    save_packed(tiny_quantized({'prune_ratio': 0.4}), tmp_path / 'x')
    code = (
        'import sys, types; package = types.ModuleType("compsrt_basicsr"); package.__path__ = [sys.argv[1]]; '
        'sys.modules["compsrt_basicsr"] = package; from compsrt_basicsr.checkpoints.size import measure_size; '
        'print(measure_size(sys.argv[2]).measured, sorted({"torch", "basicsr", "requests", "cv2"} & set(sys.modules)))'
    )
    result = run_command(['python', '-c', code, ROOT / 'compsrt_basicsr', tmp_path / 'x'], tmp_path)
    assert result.stdout.split(maxsplit=1) == [str((tmp_path / 'x').stat().st_size), '[]\n'], result.stderr
