"""CompSRTModel: teacher and student draw the same noise in each step, another one in the next."""

import logging

import pytest
import torch
from basicsr.models import build_model
from compsrt_runs import distillation_options

from compsrt_basicsr.archs.mambairv2_light_arch import MambaIRv2Light

TINY = {
    'upscale': 2,
    'embed_dim': 12,
    'd_state': 3,
    'depths': [1],
    'num_heads': [2],
    'window_size': 8,
    'inner_rank': 4,
    'num_tokens': 6,
}


@pytest.fixture
def model(tiny_lmdb, tmp_path, monkeypatch):
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)
    torch.manual_seed(0)
    torch.save({'params': MambaIRv2Light(**TINY).state_dict()}, tmp_path / 'teacher.pth')
    options = distillation_options(tiny_lmdb, tmp_path / 'teacher.pth')
    options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True)
    options['path'].update(experiments_root=str(tmp_path), models=str(tmp_path), training_states=str(tmp_path))
    for phase, dataset in options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    options['network_t'] = {'type': 'MambaIRv2Light', **TINY}
    options['network_g'] = {'type': 'CompSRTNet', 'base': options['network_t'], 'quant': {}}
    return build_model(options)


def test_noise_is_shared_and_renewed(model):
    draws = {'net_g': [], 'net_t': []}
    for name, found in draws.items():
        network = model.get_bare_model(getattr(model, name))
        network.register_forward_pre_hook(
            lambda module, _, found=found: found.append(torch.rand(3, generator=module.generator(torch.device('cpu'))))
        )
    for iteration in (1, 2):
        model.feed_data({'lq': torch.rand(1, 3, 8, 8)})
        model.optimize_parameters(iteration)
    assert torch.equal(torch.stack(draws['net_g']), torch.stack(draws['net_t']))
    assert not torch.equal(*draws['net_g'])
    assert model.get_bare_model(model.net_g).generator(torch.device('cpu')) is None  # between steps, torch's own
