"""Models of networks, losses, schedulers and metrics have the arguments and defaults of what they describe."""

import inspect

import pytest
from basicsr.models import lr_scheduler
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY

from compsrt_basicsr.config import losses, networks, training
from compsrt_basicsr.config.check_registries import known_optimizers
from compsrt_basicsr.config.validation import Metric

LOSSES = (losses.FeatureDistillationLoss, losses.PublishedFeatureLoss, losses.PublishedPixelLoss)
SCHEDULERS = [
    (training.MultiStepScheduler, lr_scheduler.MultiStepRestartLR),
    (training.CosineScheduler, lr_scheduler.CosineAnnealingRestartLR),
]


def arguments(target, given=()):
    found = inspect.signature(target).parameters.values()
    return {p.name: p.default for p in found if p.name not in ('kwargs', *given)}


def options(model):
    return {
        name: inspect.Parameter.empty if info.is_required() else info.default
        for name, info in model.model_fields.items()
        if name != 'type'
    }


def test_networks():
    assert options(networks.SwinIRNetwork) == arguments(ARCH_REGISTRY.get('CompSRTSwinIR'))
    assert options(networks.CompSRTNet) == arguments(ARCH_REGISTRY.get('CompSRTNet'))


@pytest.mark.parametrize('model', LOSSES, ids=lambda model: model.__name__)
def test_losses(model):
    assert options(model) == arguments(LOSS_REGISTRY.get(model.__name__))


@pytest.mark.parametrize(('model', 'target'), SCHEDULERS, ids=lambda value: value.__name__)
def test_schedulers(model, target):
    assert options(model) == arguments(target, given=('optimizer', 'last_epoch'))


def test_what_all_optimizers_and_metrics_share():
    adam = arguments(known_optimizers()['Adam'])
    assert {name: adam[name] for name in ('betas', 'weight_decay')} == {'betas': (0.9, 0.999), 'weight_decay': 0}
    assert set(options(training.Optimizer)) <= set(adam)
    psnr = arguments(METRIC_REGISTRY.get('calculate_psnr'))
    assert set(options(Metric)) - {'better'} <= set(psnr)
