"""Methods through the commands: one that trains, and one that is done after calibration."""

import json

import pytest
import torch
from compsrt_runs import distillation_options, make_teacher, options_for_testing

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(('method', 'steps'), [('minmax', 0), ('lsq', 2)])
def test_train_and_test(method, steps, tiny_lmdb, tmp_path, write_options, run_command):
    options = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    options['method'] = method
    options['network_g']['quant'] = {'weight_bits': 2, 'act_bits': 2}
    options['train'] = {'total_iter': 2}
    options['calibration'] = {'num_patches': 4}
    file = write_options(tmp_path / 'train.yml', options)
    result = run_command(['python', '-m', 'compsrt_basicsr', 'train', '-opt', file], tmp_path)
    assert result.returncode == 0, result.stderr
    assert f'Method {method}: ' in result.stdout + result.stderr
    models = tmp_path / 'experiments/tiny/models'
    first, last = (torch.load(models / f'net_g_{n}.pth', weights_only=True)['params'] for n in ('calibrated', 'latest'))
    assert steps == 0 or any(not torch.equal(value, last[key]) for key, value in first.items())
    assert steps > 0 or all(torch.equal(value, last[key]) for key, value in first.items())

    test = write_options(tmp_path / 'test.yml', options_for_testing(options, models / 'net_g_latest.pth'))
    result = run_command(['python', '-m', 'compsrt_basicsr', 'test', '-opt', test], tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / 'results/tiny/metrics.json').read_text())
    assert metrics['TinyVal']['tiny']['levels_max'] <= 4
