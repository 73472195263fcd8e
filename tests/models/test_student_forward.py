"""CompSRTModel: teacher and student draw the same noise; students of foreign code compute as they were calibrated."""

import logging
from copy import deepcopy

import pytest
import torch
from basicsr.models import build_model
from compsrt_runs import distillation_options
from torch import nn

from compsrt_basicsr.archs.mambairv2_light_arch import MambaIRv2Light
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY

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


class NormedNet(nn.Module):
    """A batch norm that no convolution can absorb, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.last, self.shuffle, self.dropout = nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2), nn.Dropout(0.5)

    def forward(self, x):
        return self.shuffle(self.last(self.dropout(self.norm(self.first(x).relu()))))


@pytest.fixture
def build(tiny_lmdb, tmp_path, monkeypatch):
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)

    def build(teacher, section, quant):
        torch.save({'params': teacher.state_dict()}, tmp_path / 'teacher.pth')
        options = distillation_options(tiny_lmdb, tmp_path / 'teacher.pth')
        options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True)
        options['path'].update(experiments_root=str(tmp_path), models=str(tmp_path), training_states=str(tmp_path))
        for phase, dataset in options['datasets'].items():
            dataset.update(phase=phase, scale=2)
        options['train']['feature_opt'] = None
        options['network_t'] = section
        options['network_g'] = {'type': 'CompSRTNet', 'base': section, 'quant': quant}
        return build_model(options)

    torch.manual_seed(0)
    return build


def test_noise_is_shared_and_renewed(build):
    model = build(MambaIRv2Light(**TINY), {'type': 'MambaIRv2Light', **TINY}, {})
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


def test_foreign_code_computes_as_calibrated(build, monkeypatch):
    """In training mode, the statistics of batches would replace those of the network, and dropout add noise."""
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'NormedNet', NormedNet)
    model = build(NormedNet(), {'type': 'NormedNet'}, {'quantize_convs': True, 'quantize_head_tail': True})
    statistics = model.net_g.norm.running_mean.clone()
    batch = torch.rand(2, 3, 8, 8)
    expected = deepcopy(model.net_g).eval()(batch)
    model.feed_data({'lq': batch})
    model.optimize_parameters(1)
    assert torch.equal(model.output, expected) and torch.equal(model.net_g.norm.running_mean, statistics)
