"""`compsrt bench`: modes, numbers, tables and the figure, on tiny networks."""

from __future__ import annotations

import json
import re
import struct
import sys

import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from click.testing import CliRunner
from compsrt_runs import make_teacher
from tiny_networks import tiny_edsr, tiny_quantized
from torch.utils.flop_counter import FlopCounterMode

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.compression.targets import parse_targets
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.kernels.loaded import kernels
from compsrt_basicsr.study.bench import timing
from compsrt_basicsr.study.bench.memory import Case, Memory, peak_memory
from compsrt_basicsr.study.bench.modes import in_mode, modes_of, own_mode
from compsrt_basicsr.study.bench.peak import code_peak, float_peak
from compsrt_basicsr.study.bench.profile import OTHER, profile_layers
from compsrt_basicsr.study.bench.report import lead_lines, profile_table, timing_table
from compsrt_basicsr.study.bench.rivals import ONNX, OPENVINO, Compiled, rivals_of
from compsrt_basicsr.study.bench.timing import Measurement, measure
from compsrt_basicsr.utils import packages


@pytest.fixture
def strict(tmp_path):
    torch.save({'params': tiny_quantized().state_dict()}, tmp_path / 'strict.pth')
    return load_network(tmp_path / 'strict.pth')


def test_modes_of_each_kind_of_model(strict, tmp_path):
    torch.save(
        {'params': tiny_quantized({'code_range': 'paper', 'transform': 'padded'}).state_dict()}, tmp_path / 'p.pth'
    )
    torch.save({'params': tiny_edsr().state_dict()}, tmp_path / 'edsr.pth')
    assert modes_of(strict) == ('fp32', 'bf16', 'fake', 'integer')
    assert modes_of(strict, ('integer', 'fp32')) == ('fp32', 'integer')
    assert modes_of(load_network(tmp_path / 'p.pth')) == ('fp32', 'bf16', 'fake')
    assert modes_of(load_network(make_teacher(tmp_path / 't.pth'))) == ('fp32', 'bf16')
    assert own_mode(load_network(tmp_path / 'edsr.pth'), 'fp32')(torch.rand(1, 3, 8, 8)).shape[-1] == 16


def test_full_precision_is_the_same_architecture_without_quantization(strict):
    twin = own_mode(strict, 'fp32')
    assert type(twin) is SwinIR
    assert sum(p.numel() for p in twin.parameters()) == sum(
        p.numel() for n, p in strict.network.named_parameters() if 'quantizer' not in n
    )


def test_a_mode_leaves_the_model_as_it_is(strict):
    image = torch.rand(1, 3, 16, 16)
    before = strict.network(image)
    own_mode(strict, 'integer')(image)
    assert torch.equal(strict.network(image), before)
    assert torch.allclose(own_mode(strict, 'fake')(image), before)


def test_measure_alternates_and_compares_with_the_first_mode(strict, monkeypatch):
    calls = []
    monkeypatch.setattr(timing, 'peak_memory', lambda source, case, folder: Memory(10, 1))
    monkeypatch.setattr(timing, 'in_mode', lambda model, mode, folder: Recorder(calls, mode))
    found = measure(strict, ('fp32', 'fake'), (16,), (1,), ('cpu',), rounds=2)
    assert calls == ['fp32', 'fake'] * 3
    assert [(m.case, len(m.seconds)) for m in found] == [(Case(m, 16, 1, 'cpu'), 2) for m in ('fp32', 'fake')]
    assert found[0].speed == 1.0


class Recorder(torch.nn.Module):
    def __init__(self, calls, mode):
        super().__init__()
        self.calls, self.mode = calls, mode

    def forward(self, x):
        self.calls.append(self.mode)
        return x


def test_a_profile_has_every_kind_of_layer(strict):
    """Every kind of a quantized SwinIR occurs, and no hook stays."""
    found = profile_layers(strict.network, torch.rand(1, 3, 16, 16))
    expected = {'transform', 'quantize', 'convolutions', 'product', 'attention products, bias, mask', 'softmax', 'GELU',
                'LayerNorm', 'windows, shortcuts', OTHER}  # fmt: skip
    assert set(found) == expected and all(seconds > 0 for seconds in found.values())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in strict.network.modules())


def test_tables():
    cases = [Measurement(Case('fp32', 16, 1, 'cpu'), (2.0, 1.0, 3.0), Memory(10**9, None), 1.0, 5 * 10**9),
             Measurement(Case('integer', 16, 1, 'cpu'), (1.0,), Memory(10**9, 5 * 10**6), 2.0, 5 * 10**9)]  # fmt: skip
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in timing_table(cases).splitlines()[2:]]
    assert lines == [
        ['cpu', '1', '16×16', 'fp32', '2.000', '1.000 to 3.000', '1.00', '2', '–', '1000'],
        ['cpu', '1', '16×16', 'integer', '1.000', '1.000 to 1.000', '2.00', '5', '5', '1000'],
    ]
    text = profile_table({'fp32': {'product': 0.3, 'other': 0.1}, 'fake': {'product': 0.1, 'quantize': 0.3}})
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()[2:]]
    assert rows == [
        ['product', '75%', '25%'],
        ['quantize', '–', '75%'],
        ['other', '25%', '–'],
        ['total (ms)', '400', '400'],
    ]


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (('--size', '20'), '`--size` .* got 20'),
        (('--size', '0'), '`--size`'),
        (('--mode', 'intger'), 'Did you mean `integer`'),
        (('--threads', '0'), '`--threads`'),
        (('--device', 'cuda'), '--device cuda'),
    ],
)
def test_errors_are_a_sentence(strict, arguments, text):
    result = CliRunner().invoke(main, ['bench', strict.source, *arguments])
    assert result.exit_code == 1 and re.search(text, result.output)


def test_a_teacher_has_no_integer_mode(tmp_path):
    result = CliRunner().invoke(main, ['bench', str(make_teacher(tmp_path / 't.pth')), '--mode', 'integer'])
    assert result.exit_code == 1 and '`integer`' in result.output


def test_rates_count_the_multiplications_of_full_precision(strict, monkeypatch):
    monkeypatch.setattr(timing, 'peak_memory', lambda source, case, folder: Memory(10, 1))
    small, large = measure(strict, ('fake',), (16, 32), (1,), ('cpu',), rounds=1)
    with FlopCounterMode(display=False) as counter:
        own_mode(strict, 'fp32')(torch.rand(1, 3, 16, 16))
    assert small.multiplications == counter.get_total_flops() // 2
    assert large.multiplications == 4 * small.multiplications
    assert small.rate == small.multiplications / small.median


def test_peaks_of_the_processor():
    most = 2 * 4 * kernels().cs_lanes() * 8e9 if kernels() else 0  # two instructions a cycle, and no core has 8 GHz
    assert float_peak(1) > 1e8
    assert code_peak(1) is None if kernels() is None else 1e8 < code_peak(1) < most


def test_the_lead_is_over_the_fastest_rival():
    def case(mode, size, *seconds):
        return Measurement(Case(mode, size, 1, 'cpu'), seconds, Memory(1, 1), 1.0, 1)

    lines = lead_lines([case('fp32', 16, 8.0, 9.0), case('integer', 16, 1.0, 1.0), case('openvino', 16, 2.0, 2.0),
                        case('onnxruntime', 16, 4.0, 1.9), case('fp32', 32, 1.0)])  # fmt: skip
    assert len(lines) == 1 and '`integer` takes 0.50 of the time of `openvino`' in lines[0]


@pytest.mark.parametrize('name', [ONNX, OPENVINO])
def test_an_engine_computes_the_full_precision_network(name, tmp_path):
    pytest.importorskip(name)
    model, image = load_network(make_teacher(tmp_path / 't.pth')), torch.rand(1, 3, 24, 32)
    found, expected = in_mode(model, name, tmp_path)(image), model.network(image)
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.integration
def test_the_command_with_a_rival(strict, tmp_path, run_command, kernel_home):
    for package in ('openvino', 'nncf', 'skimage'):
        pytest.importorskip(package)
    command = ['python', '-m', 'compsrt_basicsr.cli.compsrt', 'bench', strict.source, '--size', 16, '--rounds', 1,
               '--mode', 'openvino-int8', '--mode', 'integer', '--json', tmp_path / 'b.json']  # fmt: skip
    result = run_command(command, tmp_path, COMPSRT_HOME=str(kernel_home))
    assert result.returncode == 0, result.stderr
    modes = [m['mode'] for m in json.loads((tmp_path / 'b.json').read_text())['measurements']]
    assert modes == ['integer', 'openvino-int8'] and 'the fastest rival' in result.stdout


@pytest.mark.integration
def test_a_compiled_network_computes_the_same():
    network, image = torch.nn.Conv2d(3, 4, 3).eval().requires_grad_(False), torch.rand(1, 3, 8, 8)
    assert torch.allclose(Compiled(network)(image), network(image), atol=1e-5)


def test_rivals_that_cannot_run(strict, monkeypatch):
    monkeypatch.setattr(packages.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(CompSRTError, match=r'onnxruntime.*\[bench\]'):
        modes_of(strict, ('onnxruntime',))
    with pytest.raises(CompSRTError, match=r'--target openvino.*\[engines\]'):
        parse_targets('packed,openvino')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    with pytest.raises(CompSRTError, match='`openvino` is measured'):
        measure(strict, ('fp32', 'openvino'), (16,), (1,), ('cuda',), rounds=1)
    strict.network.onnx_obstacle = 'its scan is a loop'
    assert rivals_of(strict) == ('torch.compile',)


@pytest.mark.integration
def test_memory_of_a_run_is_that_of_its_size(strict, monkeypatch, tmp_path):
    """Sixteen times the pixels need more; loading, which is the same, does not hide it."""
    small, large = (peak_memory(strict.source, Case('fp32', size, 1, 'cpu'), tmp_path) for size in (16, 256))
    assert large.run > 2 * small.run and large.process > large.run
    monkeypatch.setattr(sys, 'executable', '/bin/false')
    with pytest.raises(CompSRTError, match='could not be run'):
        peak_memory(strict.source, Case('fp32', 16, 1, 'cpu'), tmp_path)


@pytest.mark.integration
def test_the_command(strict, tmp_path, run_command, kernel_home):
    files = tmp_path / 'b.json', tmp_path / 'b.png'
    command = ['python', '-m', 'compsrt_basicsr.cli.compsrt', 'bench', strict.source, '--size', 16,
               '--mode', 'integer', '--mode', 'fake', '--rounds', 2, '--json', files[0], '--png', files[1]]  # fmt: skip
    result = run_command(command, tmp_path, COMPSRT_HOME=str(kernel_home))
    assert result.returncode == 0, result.stderr
    record = json.loads(files[0].read_text())
    assert [(m['mode'], m['size']) for m in record['measurements']] == [(mode, 16) for mode in ('fake', 'integer')]
    assert set(record['profile']) == {'fake', 'integer'} and record['profile']['integer']['product'] > 0
    assert struct.unpack('>II', files[1].read_bytes()[16:24]) == (1500, 600)
    assert '| cpu' in result.stdout and 'total (ms)' in result.stdout
