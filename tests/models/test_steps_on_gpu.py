"""Training, validation and counting on a GPU: only the batch goes there, and only what is logged comes back."""

import logging

import pytest
import torch
from basicsr.models import build_model
from compsrt_runs import distillation_options, make_teacher, pretraining
from device_traffic import META, DeviceTraffic, on_gpu, without_autocast
from tiny_networks import pictures, tiny_quantized

from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.quantizer import quantizers


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """BasicSR's logger, as a command would have set it up."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)


@pytest.fixture(params=['CompSRTModel', 'CompSRTPretrainModel'])
def model(request, tiny_lmdb, tmp_path):
    """A training with an average, between two iterations that log."""
    options = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    if request.param == 'CompSRTPretrainModel':
        pretraining(options)
    options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True)
    options['path'].update(experiments_root=str(tmp_path), models=str(tmp_path), training_states=str(tmp_path))
    for phase, dataset in options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    options['train']['ema_decay'] = 0.9
    options['train']['optim_g']['fused'] = False  # `meta` has no fused optimizer
    options['logger'].update(print_freq=100, save_checkpoint_freq=100)
    return build_model(options)


def test_a_step_copies_the_batch_and_reads_nothing(model, monkeypatch):
    without_autocast(monkeypatch)
    model.device = META
    for name in ('net_g', 'net_g_ema', 'net_t'):
        if hasattr(model, name):
            getattr(model, name).to(META)
    model.opt['train']['optim_g'], model.optimizers = {'type': 'Adam', 'lr': 1e-2, 'fused': False}, []
    model.setup_optimizers()
    with DeviceTraffic() as traffic:
        for iteration in (1, 2):
            model.feed_data({'lq': torch.rand(2, 3, 16, 16), 'gt': torch.rand(2, 3, 32, 32)})
            model.optimize_parameters(iteration)
    assert len(traffic.found) == 4 and all('sr_model.py' in place for place in traffic.found)
    assert all(parameter.grad is not None for parameter in model.optimizer_g.param_groups[0]['params'])


def test_validation_copies_the_image_and_takes_back_the_output(model, monkeypatch):
    monkeypatch.setattr('compsrt_basicsr.models.validation.tensor2img', lambda images: images[0].cpu())
    with on_gpu(model.net_g_ema) as gpu, DeviceTraffic() as traffic:
        model.device = gpu
        model.feed_data({'lq': torch.rand(1, 3, 13, 18)})
        model.test()
        taken = model._take_images(torch.rand(1, 3, 26, 36))
    assert len(traffic.found) == 2
    assert {name: (x.device.type, x.shape[-2:]) for name, x in taken.items()} == dict.fromkeys(
        ('img', 'img2'), ('cpu', (26, 36))
    )


def test_codes_are_read_once():
    """However many quantizers there are."""
    network = tiny_quantized()
    with DeviceTraffic() as traffic, torch.no_grad(), counting_codes(network) as counts:
        network(pictures())
        assert traffic.reads == 0
    expected = {}

    def codes(name):
        return lambda quantizer, args: expected.update({name: [set(quantizer.codes(args[0]).flatten().tolist())]})

    for name, quantizer in quantizers(network).items():
        quantizer.register_forward_pre_hook(codes(name))
    with torch.no_grad():
        network(pictures())
    assert {name: count.codes for name, count in counts.items()} == expected
