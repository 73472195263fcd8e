"""Every method: builds, calibrates, trains, keeps its bits, and is what it says it is."""

import copy
import logging

import pytest
import torch
from basicsr.models import build_model
from compsrt_runs import distillation_options, make_teacher

from compsrt_basicsr.methods.presets import METHODS
from compsrt_basicsr.quant.levels import counting_levels
from compsrt_basicsr.quant.quantizer import quantizers


@pytest.fixture
def opt(tiny_lmdb, tmp_path, monkeypatch):
    """Options of a run in one process that leave all a method can say to the method."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)
    options = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True)
    options['path'].update(experiments_root=str(tmp_path), models=str(tmp_path), training_states=str(tmp_path))
    options['calibration'] = {'num_patches': 4}
    options['train'] = {'total_iter': 2}
    for phase, dataset in options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    return options


def run(opt, steps=2):
    """A model after some steps."""
    model = build_model(opt)
    for iteration in range(1, steps + 1):
        generator = torch.Generator().manual_seed(iteration)
        model.feed_data({'lq': torch.rand(2, 3, 16, 16, generator=generator)})
        model.optimize_parameters(iteration)
    return model


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize('name', METHODS)
def test_every_method_trains_what_it_learns_and_keeps_its_bits(opt, name):
    opt['network_g']['quant'] = {'method': name, 'weight_bits': 2, 'act_bits': 2}
    alone = METHODS[name].train['trainable'] == 'none'
    if alone:
        assert run(copy.deepcopy(opt), 0).optimizers == []
        opt['train']['trainable'] = 'quantizers'
    model = run(opt, 0)
    before = state_of(model.net_g)
    calibrated = quantizers(model.net_g).values()
    assert all(q.is_calibrated for q in calibrated)
    for iteration in (1, 2):
        model.feed_data({'lq': torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(iteration))})
        model.optimize_parameters(iteration)
    changed = {key for key, value in state_of(model.net_g).items() if not torch.equal(value, before[key])}
    learned = {f'{n}.{part}' for n, q in quantizers(model.net_g).items() for part in q.learned}
    assert changed <= learned and len(changed) > 0.9 * len(learned) - (
        len(learned) // 4 if name == 'compsrt_paper' else 0
    )
    if name != 'compsrt_paper':
        with counting_levels(model.net_g.eval()) as counts, torch.no_grad():
            model.net_g(torch.rand(1, 3, 16, 16))
        assert counts and all(count.used <= 4 for count in counts.values())
