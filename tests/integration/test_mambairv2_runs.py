"""`basicsr train` and `basicsr test` with MambaIRv2Light: pretraining, then distillation, resumed exactly."""

import json

import pytest
import torch
from compsrt_runs import distillation_options, options_for_testing, pretraining

from compsrt_basicsr.archs.mambairv2_light_arch import PUBLISHED_PLACEMENT

pytestmark = pytest.mark.integration
TINY = {
    'type': 'MambaIRv2Light',
    'upscale': 2,
    'embed_dim': 12,
    'd_state': 4,
    'depths': [2],
    'num_heads': [2],
    'window_size': 8,
    'inner_rank': 4,
    'num_tokens': 6,
}
BASICSR = ('python', '-m', 'compsrt_basicsr')


def psnr(root):
    return {key: value['psnr'] for key, value in json.loads((root / 'metrics.json').read_text())['TinyVal'].items()}


@pytest.mark.parametrize('published', [False, True])
def test_pretrain_distil_test(published, run_command, write_options, tiny_lmdb, tmp_path):
    options = distillation_options(tiny_lmdb, tmp_path / 'experiments/teacher/models/net_g_latest.pth')
    options['network_t'] = TINY
    first = {**pretraining({**options, 'train': {**options['train']}}), 'name': 'teacher'}
    quant = {'weight_bits': 4, 'act_bits': 4, 'quantize_convs': True, 'quantize_products': True}
    if published:
        options['method'], quant = 'compsrt_paper', {'weight_bits': 2, 'act_bits': 2, **PUBLISHED_PLACEMENT}
        options['train'] = {key: options['train'][key] for key in ('total_iter', 'warmup_iter')}
    options['network_g'] = {'type': 'CompSRTNet', 'base': TINY, 'quant': quant}
    tests = options_for_testing(options, tmp_path / 'experiments/tiny/models/net_g_latest.pth')
    for verb, name, content in (('train', 'teacher', first), ('train', 'tiny', options), ('test', 'test', tests)):
        file = write_options(tmp_path / f'{name}.yml', content)
        result = run_command([*BASICSR, verb, '-opt', file], tmp_path)
        assert result.returncode == 0, result.stderr[-2000:]
    trained = psnr(tmp_path / 'experiments/tiny')
    assert list(psnr(tmp_path / 'results/tiny').values()) == [trained['4']]  # the seeded draws are the same

    details = json.loads((tmp_path / 'results/tiny/test_details.json').read_text())['TinyVal']
    assert len(details['levels']) == 48 if published else details['levels']

    # From the state of iteration 2, the same weights: noise is that of the iteration, not of the process.
    expected = torch.load(tmp_path / 'experiments/tiny/models/net_g_4.pth', weights_only=True)['params']
    for name in ('models/net_g_4.pth', 'models/net_g_latest.pth', 'training_states/4.state'):
        (tmp_path / 'experiments/tiny' / name).unlink()
    result = run_command([*BASICSR, 'train', '-opt', tmp_path / 'tiny.yml', '--auto_resume'], tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    again = torch.load(tmp_path / 'experiments/tiny/models/net_g_4.pth', weights_only=True)['params']
    assert all(torch.equal(value, again[name]) for name, value in expected.items())
