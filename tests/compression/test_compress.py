"""`compsrt compress`: the results, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from commands import CommandServer
from PIL import Image
from tiny_networks import EDSR, tiny_quantized, tiny_swinir

from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.compression import distil, targets
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.packed import read_about
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.utils.progress import SILENT

NETWORKS: dict[str, dict[str, Any]] = {
    'DITN': {'dim': 8, 'ITL_blocks': 1, 'SAL_blocks': 1, 'UFONE_blocks': 1, 'upscale': 2},
    'Compact': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2, 'upscale': 2, 'act_type': 'prelu'},
}


def compsrt(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three smooth images of 96x80 pixels, of which the first is held out."""
    (tmp_path / 'photos').mkdir()
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        image = Image.fromarray(values).resize((96, 80), Image.Resampling.BICUBIC)
        image.save(tmp_path / f'photos/{seed}.png')
    return tmp_path / 'photos'


def weights(arch: str, folder: Path) -> Path:
    torch.manual_seed(0)
    network = build_spandrel(arch, NETWORKS[arch])
    torch.save({'params': network.model.state_dict()}, folder / f'{arch}.pth')
    return folder / f'{arch}.pth'


@pytest.mark.parametrize('arch', NETWORKS)
def test_one_command_makes_file_recipe_and_report(arch: str, photos: Path, tmp_path: Path) -> None:
    model, out = weights(arch, tmp_path), tmp_path / 'out'
    result = compsrt('compress', model, '-o', out, '--data', photos, '--licence', 'MIT', '--origin', 'a test')
    assert result.exit_code == 0, result.output
    model.unlink()
    packed = out / f'{arch}_w8a8.safetensors'
    loaded = load_network(packed)
    assert loaded.kind == 'quantized' and loaded.scale == 2
    assert read_about(packed) == {'licence': 'MIT', 'origin': 'a test'}
    report = json.loads((out / 'report.json').read_text())
    assert report['sizes'][packed.name] == packed.stat().st_size
    assert report['low_bit_share'] == 1 and report['mean']['to_float'] > 40
    assert report['images']['held_out'] == ['0.png'] and report['images']['calibration'] == 2
    assert all(row['most_levels'] <= 2 ** row['bits'] for row in report['levels'])
    assert report['quality'][0]['before'] == pytest.approx(report['quality'][0]['after'], abs=1)
    assert 'MIT' in (out / 'report.md').read_text() and f'{packed.stat().st_size:,}' in result.output
    assert Image.open(out / 'report.png').size[0] > 4 * 96


@pytest.mark.parametrize('scheme', ['w8a8', 'w4a4'])
def test_files_for_engines_are_timed_against_full_precision(scheme: str, photos: Path, tmp_path: Path) -> None:
    """None is slower by its kind: it runs in 8 bits only where that takes less time."""
    pytest.importorskip('openvino')
    model, out = weights('Compact', tmp_path), tmp_path / 'out'
    words = ('--data', photos, '--scheme', scheme, '--target', 'onnx,openvino')
    result = compsrt('compress', model, '-o', out, *words)
    assert result.exit_code == 0, result.output
    report = json.loads((out / 'report.json').read_text())
    engines = report['latency']['engines']
    assert set(engines) == {f'Compact_{scheme}.onnx', f'Compact_{scheme}.xml'} and report['missing'] == {}
    for file, engine in engines.items():
        assert (out / file).is_file() and engine['before'] > 0 and engine['after'] > 0
        if scheme == 'w8a8':
            assert engine['layers'] == 3 and 0 < report['shares']['float'] <= 0.125  # the costliest layer is spared
        else:
            assert engine['layers'] == 4 and engine['kind'] == 'weight-only'
        assert engine['kind'] == ('int8' if engine['int8_layers'] else 'weight-only')
        assert engine['engine'] in result.output and file in (out / 'report.md').read_text()


@pytest.mark.parametrize(('seconds', 'kind'), [(0.5, 'int8'), (2.0, 'weight-only')])
def test_a_file_that_is_slower_is_replaced_or_named(
    seconds: float, kind: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('openvino')
    monkeypatch.setattr(targets, 'alternate_calls', lambda *_: {'before': [1.0], 'after': [seconds]})
    words = ('--data', photos, '--mixed', 0, '--target', 'onnx,openvino')
    result = compsrt('compress', weights('Compact', tmp_path), '-o', tmp_path / 'out', *words)
    assert result.exit_code == 0, result.output
    engines = json.loads((tmp_path / 'out/report.json').read_text())['latency']['engines']
    assert [engine['kind'] for engine in engines.values()] == [kind] * 2
    assert [engine['slower'] for engine in engines.values()] == [seconds > 1] * 2
    assert result.output.count(' quantized, slower') == 2 * (seconds > 1)


def test_packed_file_and_report_are_kept_without_the_file_of_an_engine(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> None:
        raise RuntimeError('[ONNXRuntimeError] : 1 : FAIL : of the engine\nmore')

    model, out = weights('Compact', tmp_path), tmp_path / 'out'
    words = ('compress', model, '-o', out, '--data', photos, '--target', 'onnx')
    assert compsrt(*words).exit_code == 0 and (out / 'Compact_w8a8.onnx').is_file()
    monkeypatch.setattr('onnxruntime.InferenceSession.run', run)
    result = compsrt(*words)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert 'ONNX Runtime' in result.stderr and 'Compact_w8a8.onnx' in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (out / 'Compact_w8a8.onnx').exists()
    report = json.loads((out / 'report.json').read_text())
    assert list(report['missing']) == ['ONNX Runtime'] and 'of the engine' in report['missing']['ONNX Runtime']
    assert report['mean']['to_float'] > 40 and report['latency']['after'] > 0 and report['latency']['engines'] == {}
    assert 'of the engine' in (out / 'report.md').read_text()
    assert load_network(out / 'Compact_w8a8.safetensors').kind == 'quantized'


def test_the_same_command_again_replaces_its_results_and_no_others(photos: Path, tmp_path: Path) -> None:
    model, out = weights('Compact', tmp_path), tmp_path / 'out'
    first = ('compress', model, '-o', out, '--data', photos)
    assert compsrt(*first).exit_code == 0
    packed = (out / 'Compact_w8a8.safetensors').read_bytes()
    assert compsrt(*first).exit_code == 0
    assert (out / 'Compact_w8a8.safetensors').read_bytes() == packed
    other = compsrt(*first, '--scheme', 'w4a4')
    assert other.exit_code == 1 and '--force' in other.output
    assert compsrt(*first, '--scheme', 'w4a4', '--force').exit_code == 0
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('years')
    refused = compsrt('compress', model, '-o', tmp_path / 'mine', '--data', photos, '--force')
    assert refused.exit_code == 1 and 'other files' in refused.output


def test_list_shows_every_part_and_does_nothing(tmp_path: Path) -> None:
    result = compsrt('compress', weights('DITN', tmp_path), '--list', '--scheme', 'w4a4', '--keep-float', '*.qkv')
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {'DITN.pth'}
    lines = result.output.splitlines()
    lines = lines[2 : next(i for i, line in enumerate(lines) if line.startswith('total'))]
    rows = {row.split()[0]: row for row in lines}
    assert 'w8a8' in rows['model.sft'] and 'w8a8' in rows['model.upsample.*']
    assert 'float' in next(row for name, row in rows.items() if name.endswith('.qkv'))
    assert '--keep-float *.qkv' in result.output and 'product' in result.output
    shares = [float(word[:-1]) for row in lines for word in row.split() if word[-1] == '%']
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))


def test_a_missed_psnr_names_layers_that_keep_float_spares(photos: Path, tmp_path: Path) -> None:
    model = weights('Compact', tmp_path)
    words = ('compress', model, '--data', photos, '--scheme', 'w2a2')
    result = compsrt(*words, '-o', tmp_path / 'a', '--min-psnr', 200)
    assert result.exit_code == 1 and '--min-psnr' in result.output
    report = json.loads((tmp_path / 'a/report.json').read_text())
    errors = [row['error'] for row in report['sensitivity']]
    assert len(errors) == 4 and errors == sorted(errors, reverse=True) and errors[0] > 0
    worst = report['sensitivity'][0]['name']
    assert f'`{worst}`' in result.output
    spared = compsrt(*words, '-o', tmp_path / 'b', '--keep-float', worst)
    assert spared.exit_code == 0, spared.output
    better = json.loads((tmp_path / 'b/report.json').read_text())
    assert better['mean']['to_float'] > report['mean']['to_float'] and better['low_bit_share'] < 1
    assert worst not in quantized_layers(load_network(tmp_path / 'b/Compact_w2a2.safetensors').network)


def test_a_swinir_and_a_network_by_option_file(photos: Path, tmp_path: Path) -> None:
    torch.save({'params': tiny_swinir().state_dict()}, tmp_path / 'swinir.pth')
    result = compsrt('compress', tmp_path / 'swinir.pth', '-o', tmp_path / 'a', '--data', photos)
    assert result.exit_code == 0, result.output
    assert load_network(tmp_path / 'a/swinir_w8a8.safetensors').record['arch'] == 'CompSRTSwinIR'
    assert json.loads((tmp_path / 'a/report.json').read_text())['low_bit_share'] == 1

    from basicsr.archs import build_network

    torch.save({'params': build_network(dict(EDSR)).state_dict()}, tmp_path / 'edsr.pth')
    options = {'scale': 2, 'network_g': EDSR, 'path': {'pretrain_network_g': str(tmp_path / 'edsr.pth')}}
    (tmp_path / 'edsr.yml').write_text(yaml.safe_dump(options))
    result = compsrt('compress', tmp_path / 'edsr.yml', '-o', tmp_path / 'b', '--data', photos, '--scheme', 'w4a8')
    assert result.exit_code == 0, result.output
    assert load_network(tmp_path / 'b/edsr_w4a8.safetensors').scale == 2


@pytest.mark.parametrize(
    ('name', 'state'),
    [
        ('classifier', {'fc.weight': torch.zeros(10, 4), 'fc.bias': torch.zeros(10)}),
        ('diffusion', {'model.diffusion_model.input_blocks.0.0.weight': torch.zeros(4, 4, 3, 3)}),
        ('optimizer', {'epoch': 1, 'optimizers': [{'state': {}}]}),
    ],
)
def test_files_of_other_kinds_are_refused_in_a_sentence(name: str, state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / f'{name}.pth')
    result = compsrt('compress', tmp_path / f'{name}.pth', '-o', tmp_path / 'out')
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert f'{name}.pth' in result.output and len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('words', 'culprit'),
    [
        (['--scheme', 'w4a16'], 'w4a16'),
        (['--target', 'packed,onxx'], 'onnx'),
        (['--keep-float', 'model.bodi.*'], 'model.body'),
        (['--keep-float', '*'], 'exclude|nothing'),
        (['--data', 'nowhere'], 'nowhere'),
        (['--device', 'cuda:99'], 'cuda:99'),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(words: list[str], culprit: str, tmp_path: Path) -> None:
    result = compsrt('compress', weights('Compact', tmp_path), '-o', tmp_path / 'out', *words)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert any(each in result.output for each in culprit.split('|')), result.output
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('device', 'given', 'seen'),
    [('cpu', '0,1', ''), ('cuda', None, '0'), ('cuda:1', None, '1'), ('cuda', '4,7', '4'), ('cuda:1', '4,7', '7')],
)
def test_the_training_runs_on_the_device(
    device: str, given: str | None, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if given is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', given)
    options: dict[str, Any] = {}
    monkeypatch.setattr(distil.child_process, 'run', lambda command, **given: options.update(given) or 1)
    with pytest.raises(CompSRTError, match='printed nothing'):
        distil.distil(tmp_path, 'a', tmp_path / 'a.yml', 1, None, SILENT, torch.device(device))
    assert options['env']['CUDA_VISIBLE_DEVICES'] == seen


def test_a_quantized_network_and_a_folder_are_refused(tmp_path: Path) -> None:
    torch.save({'params': tiny_quantized().state_dict()}, tmp_path / 'done.pth')
    for model in (tmp_path / 'done.pth', 'swinir_light_x2_house_w2a2'):
        result = compsrt('compress', model, '-o', tmp_path / 'out')
        assert result.exit_code == 1 and 'quantized already' in result.output
    assert 'is a folder' in compsrt('compress', tmp_path, '-o', tmp_path / 'out').output
    assert compsrt('compress', tmp_path / 'done.pth').exit_code == 2


@pytest.mark.integration
@pytest.mark.parametrize('arch', NETWORKS)
def test_the_recipe_runs_as_it_stands(
    arch: str, photos: Path, tmp_path: Path, run_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    out = tmp_path / 'out'
    assert compsrt('compress', weights(arch, tmp_path), '-o', out, '--data', photos).exit_code == 0
    done = run_command(['python', '-m', 'compsrt_basicsr', 'train', '-opt', out / 'recipe.yml'], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (calibrated,) = (tmp_path / 'experiments').glob('*/models/net_g_calibrated.pth')
    mine = load_network(out / f'{arch}_w8a8.safetensors').network
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():  # the packed file rounds what is not quantized to fp16
        assert torch.allclose(load_network(calibrated).network(image), mine(image), atol=0.02)


OWN_RUN = """
from compsrt_basicsr.cli import start
from compsrt_basicsr.compression import run

run.iterations_within = lambda *_: 60
start.compsrt()
"""


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.integration
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    photos: Path, tmp_path: Path, command_server: CommandServer
) -> None:
    """In the calibration, and in the training, which runs as a process of its own in the same group."""
    out, script = tmp_path / 'out', tmp_path / 'own.py'
    script.write_text(OWN_RUN)
    words = ['compress', str(weights('DITN', tmp_path)), '-o', str(out), '--data', str(photos), '--scheme', 'w4a4']
    states = out / 'experiments/DITN_w4a4/training_states'

    def run(during: Callable[[int], None] | None = None) -> subprocess.CompletedProcess[str]:
        return command_server.run(str(script), [*words, '--effort', 'minutes'], tmp_path, during=during)

    def interrupted(pid: int, condition: Callable[[], Any]) -> None:
        wait_for(condition)
        os.killpg(pid, signal.SIGINT)

    first = run(lambda pid: interrupted(pid, (out / 'request.json').exists))
    assert first.returncode == 130 and first.stderr.startswith('Interrupted: ')
    assert {path.name for path in out.iterdir()} == {'request.json'}

    second = run(lambda pid: interrupted(pid, lambda: list(states.glob('[0-9]*.state'))))
    assert second.returncode == 130 and second.stderr.startswith('Interrupted: ')
    assert len(second.stderr.strip().splitlines()) == 1
    assert load_network(out / 'DITN_w4a4.safetensors').kind == 'quantized'
    calibrated = (out / 'calibrated.pth').read_bytes()

    third = run()
    assert third.returncode == 0, third.stderr
    assert 'Resuming training from ' in (out / 'training.log').read_text()
    assert (out / 'calibrated.pth').read_bytes() == calibrated
    assert json.loads((out / 'report.json').read_text())['training']['iterations'] == 60
