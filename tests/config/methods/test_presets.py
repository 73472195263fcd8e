"""Every method: builds, calibrates, trains, keeps its bits, and is what it says it is."""

import logging

import pytest
import torch
from basicsr.models import build_model
from compsrt_runs import distillation_options, make_teacher

from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.packing.packed import load_packed, save_packed
from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.correction import corrections
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


def step(model, iteration):
    model.feed_data({'lq': torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(iteration))})
    model.optimize_parameters(iteration)


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def trained(opt, name, bits):
    """A network after two steps of a method, and what they changed."""
    opt['method'] = name
    opt['network_g']['quant'] = {'weight_bits': bits, 'act_bits': bits}
    opt['train']['trainable'] = 'quantizers'
    model = build_model(opt)
    assert all(q.is_calibrated for q in quantizers(model.net_g).values())
    before = state_of(model.net_g)
    for iteration in (1, 2):
        step(model, iteration)
    changed = {key for key, value in state_of(model.net_g).items() if not torch.equal(value, before[key])}
    return model.net_g.eval(), changed


@pytest.mark.parametrize('name', METHODS)
def test_every_method_changes_what_it_learns_and_nothing_else(opt, name):
    network, changed = trained(opt, name, 2)
    found = quantizers(network)
    # by the published formula beta never gets a gradient
    learned = {
        f'{n}.{part}'
        for n, q in found.items()
        for part in q.learned
        if name != 'compsrt_paper' or part != 'zero_offset'
    }
    learned |= {f'{n}.{part}' for n, c in corrections(network).items() for part, _ in c.named_parameters()}
    assert changed <= learned and len(changed) > 0.9 * len(learned)
    for quantizer in found.values():
        for part in {'scale_offset', 'zero_offset'} - set(quantizer.learned):
            assert bool((getattr(quantizer, part) == 0).all())


@pytest.mark.parametrize('name', [name for name in METHODS if name != 'compsrt_paper'])
def test_every_truly_b_bit_method_keeps_its_bits_and_packs(opt, name, tmp_path):
    network, _ = trained(opt, name, 2)
    picture = torch.rand(1, 3, 16, 16)
    with counting_codes(network) as counts, torch.no_grad():
        network(picture)
    assert counts and all(1 <= count.used <= 4 for count in counts.values())
    save_packed(network, tmp_path / 'x.safetensors')
    again = load_packed(tmp_path / 'x.safetensors')
    assert again.quant_config.method == name
    for mine, theirs in zip(quantizers(network).values(), quantizers(again).values()):
        assert all(torch.equal(a, b) for a, b in zip(mine.grid(), theirs.grid()))


@pytest.mark.parametrize('name', [name for name, method in METHODS.items() if method.train['trainable'] == 'none'])
def test_methods_that_calibrate_only_have_no_optimizer(opt, name):
    opt['method'] = name
    model = build_model(opt)
    assert model.optimizers == [] and model.opt['train']['total_iter'] == 0
    assert not any(parameter.requires_grad for parameter in model.net_g.parameters())
