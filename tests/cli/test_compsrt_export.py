"""The command `compsrt export`."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from conftest import smooth_pictures
from PIL import Image
from tiny_networks import tiny_quantized, tiny_swinir

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.packing.packed import save_packed


def run(*arguments):
    return CliRunner().invoke(main, ['export', *map(str, arguments)])


def save(path, network):
    torch.save({'params': network.state_dict()}, path)
    return path


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp('model') / 'tiny.pth', tiny_quantized())


@pytest.fixture(scope='module')
def full_precision(tmp_path_factory):
    return save(tmp_path_factory.mktemp('model') / 'full.pth', tiny_swinir())


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_quantized_network(checkpoint, tmp_path):
    result = run(checkpoint, '-o', 'tiny.onnx', '--exact')
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.split('  ')[0] == 'image' and 'dB without rounding' in head
    assert [row.split()[:3] for row in rows if row.startswith('synthetic')][:2] == [
        ['synthetic', '1', '1x1'],
        ['synthetic', '2', '5x7'],
    ]
    assert 'needs --benchmark' in result.stdout
    size = os.path.getsize('tiny.onnx')
    assert result.stdout.splitlines()[-2:] == [
        'Wrote tiny.onnx: opset 21, quantized weights as UINT4, activations fake-quantized.',
        f'{size:,} bytes; the checkpoint has {os.path.getsize(checkpoint):,}.',
    ]
    assert os.listdir(tmp_path) == ['tiny.onnx']
    session = onnxruntime.InferenceSession('tiny.onnx')
    picture = torch.rand(1, 3, 24, 8, generator=torch.Generator().manual_seed(0))
    expected = load_network(checkpoint).network(picture).numpy()
    assert np.abs(session.run(None, {'input': picture.numpy()})[0] - expected).mean() < 1e-3


def test_by_default_a_file_rounds_no_activations_that_no_engine_computes_with(checkpoint):
    """So it takes no longer than full precision: the same products, and nothing in between."""
    result = run(checkpoint, '-o', 'tiny.onnx')
    assert result.exit_code == 0, result.output
    assert 'quantized weights as UINT4, activations in floating point.' in result.stdout
    kinds = Counter(node.op_type for node in onnx.load('tiny.onnx').graph.node)
    assert not {'Round', 'QuantizeLinear', 'DequantizeLinear'} & set(kinds)


def test_full_precision_and_half(full_precision):
    result = run(full_precision, '-o', 'full.onnx')
    assert result.exit_code == 0, result.output
    assert 'Wrote full.onnx: opset 20, weights as floats.' in result.stdout
    assert 'without rounding' not in result.stdout
    assert run(full_precision, '-o', 'half.onnx', '--half').exit_code == 0
    assert os.path.getsize('half.onnx') < 0.9 * os.path.getsize('full.onnx')
    types = {t.data_type for t in onnx.load('half.onnx').graph.initializer if len(t.raw_data) > 1000}
    assert onnx.TensorProto.FLOAT16 in types and onnx.TensorProto.FLOAT not in types


PAPER = {'code_range': 'paper', 'transform': 'padded'}


def exceeding():
    """One weight, and one activation, with more than 16 levels."""
    network = tiny_quantized(PAPER)
    attention = network.layers[0].residual_group.blocks[0].attn
    for quantizer in (attention.proj.weight_quantizer, attention.k_quantizer):
        quantizer.scale_offset.copy_(-0.5 * quantizer.grid()[0])
    return network


@pytest.mark.parametrize(
    ('make', 'stored'),
    [
        (lambda: tiny_quantized(PAPER), 'opset 21, quantized weights as UINT4,'),
        (exceeding, 'opset 21, quantized weights as UINT4, 1 of 12 as floats: more than 2^b levels,'),
        (lambda: tiny_quantized({**PAPER, 'prune_ratio': 0.4}), 'opset 20, weights as floats, 12 of 12 as floats: '),
    ],
    ids=['calibrated', 'exceeding', 'pruned'],
)
def test_paper_range_is_stored_as_codes_where_they_fit(make, stored):
    result = run(save('paper.pth', make()), '-o', 'paper.onnx')
    assert result.exit_code == 0, result.output
    assert f'Wrote paper.onnx: {stored}' in result.stdout


def test_a_packed_file(checkpoint, tmp_path):
    """Its codes and the checkpoint's are the same; its rest is rounded to float16, as with --half."""
    save_packed(load_network(checkpoint).network, tmp_path / 'packed.safetensors')
    assert run('packed.safetensors', '-o', 'packed.onnx').exit_code == 0
    assert run(checkpoint, '-o', 'half.onnx', '--half').exit_code == 0
    types = (onnx.TensorProto.UINT4,)
    packed, half = (
        [t.raw_data for t in onnx.load(name).graph.initializer if t.data_type in types]
        for name in ('packed.onnx', 'half.onnx')
    )
    assert packed == half and len(packed) == 12


def test_an_integer_checkpoint_is_compared_by_fake_quantization(no_kernels):
    path = save('integer.pth', tiny_quantized({'execution': 'integer'}))
    assert run(path, '-o', 'tiny.onnx').exit_code == 0


def test_a_benchmark_and_images(checkpoint, tmp_path):
    """Originals given, or where `compsrt data get Set5` puts them."""
    (tmp_path / 'datasets/Set5/HR').mkdir(parents=True)
    (tmp_path / 'lr').mkdir()
    for number, picture in enumerate(smooth_pictures()[:2]):
        Image.fromarray(picture).save(tmp_path / f'datasets/Set5/HR/{number}.png')
    Image.fromarray(smooth_pictures()[2][:9, :12]).save(tmp_path / 'lr/small.png')
    result = run(checkpoint, '-o', 'a.onnx', '--images', 'lr')
    assert result.exit_code == 0, result.output
    assert re.search(r'^small\.png +12x9 ', result.stdout, re.M)
    assert len(re.findall(r'^[01]\.png +32x32 .* \d+\.\d{4} +\d+\.\d{4}$', result.stdout, re.M)) == 2
    assert re.search(
        r'Mean PSNR-Y: torch \d+\.\d{4} dB, ONNX Runtime \d+\.\d{4} dB, difference 0\.00\d\d dB', result.stdout
    )
    given = run(checkpoint, '-o', 'b.onnx', '--benchmark', 'datasets/Set5/HR', '--pictures', 'lr')
    assert '`--images`' in given.stderr and 'small.png' in given.stdout
    assert re.search('^Mean.*', given.stdout, re.M)[0] == re.search('^Mean.*', result.stdout, re.M)[0]


@pytest.mark.parametrize(
    ('where', 'sentence'),
    [
        ('there.onnx', '`there.onnx` exists: give another name, or --force to replace it'),
        ('gone/a.onnx', '`gone/a.onnx` is no place for a file: give a name in a folder that exists'),
        ('.', '`.` is no place for a file'),
    ],
)
def test_bad_places_are_refused_before_the_work(tmp_path, where, sentence):
    (tmp_path / 'there.onnx').write_text('precious')
    result = run('never_loaded.pth', '-o', where)
    assert result.exit_code == 1 and sentence in result.stderr
    assert (tmp_path / 'there.onnx').read_text() == 'precious'


def test_force_replaces(checkpoint, tmp_path):
    (tmp_path / 'there.onnx').write_text('old')
    assert run(checkpoint, '-o', 'there.onnx', '--force').exit_code == 0
    onnx.checker.check_model('there.onnx')


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime'])
def test_a_missing_package(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = run('never_loaded.pth', '-o', 'a.onnx')
    assert result.exit_code == 1
    assert result.stderr.count('\n') == 1 and package in result.stderr
    assert "`python -m pip install 'onnx>=1.20' onnxruntime`" in result.stderr


def test_an_old_onnx(monkeypatch):
    monkeypatch.setattr(onnx, 'TensorProto', object())
    result = run('never_loaded.pth', '-o', 'a.onnx')
    assert result.exit_code == 1 and 'is too old for `compsrt export`: `python -m pip' in result.stderr


def test_a_truncated_checkpoint(checkpoint, tmp_path):
    data = checkpoint.read_bytes()
    (tmp_path / 'cut.pth').write_bytes(data[: len(data) // 2])
    result = run('cut.pth', '-o', 'a.onnx')
    assert result.exit_code == 1 and '`cut.pth`' in result.stderr and result.stderr.count('\n') == 1
    assert os.listdir(tmp_path) == ['cut.pth']


def test_a_model_that_differs_leaves_no_file(checkpoint, tmp_path, monkeypatch):
    missing = {True: lambda sides: torch.zeros(1, 1, 1), False: None}
    monkeypatch.setattr('compsrt_basicsr.onnx.masks._short', lambda module: missing[hasattr(module, 'calculate_mask')])
    (tmp_path / 'there.onnx').write_text('precious')
    result = run(checkpoint, '-o', 'there.onnx', '--force')
    assert result.exit_code == 1 and 'differ on' in result.stderr
    assert os.listdir(tmp_path) == ['there.onnx'] and (tmp_path / 'there.onnx').read_text() == 'precious'


def test_a_full_disk(checkpoint, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    result = run(checkpoint, '-o', 'a.onnx')
    assert result.exit_code == 1
    assert 'No space left on device at `a.onnx`' in result.stderr
    assert os.listdir(tmp_path) == []


def test_a_benchmark_that_is_none(checkpoint, tmp_path):
    result = run(checkpoint, '-o', 'a.onnx', '--benchmark', 'Set55')
    assert result.exit_code == 1 and '`Set55` is not a folder' in result.stderr
    assert os.listdir(tmp_path) == []
