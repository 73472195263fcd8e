"""Checks of names and arguments against what is registered in BasicSR and torch, which are imported here alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.run import NETWORKS
from compsrt_basicsr.config.section import section_of
from compsrt_basicsr.errors import shown, suggestion

# BasicSR steps without a closure, which L-BFGS cannot do without.
_NEEDS_CLOSURE = {'LBFGS'}
_LOSSES = ('pixel_opt', 'feature_opt', 'perceptual_opt')
_TYPED = ('FeatureDistillationLoss', 'PublishedFeatureLoss', 'PublishedPixelLoss')  # checked by their models


def registry_errors(opt: Mapping[str, Any]) -> Iterator[str]:
    """Yields names that are not registered, and arguments that what they name does not take."""
    from basicsr.utils.registry import DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

    yield from _name_errors(opt, 'model_type', MODEL_REGISTRY.keys(), 'model_type', 'a registered model')
    for network in NETWORKS:
        yield from _network_errors(opt.get(network), network)
    for key, dataset in section_of(opt, 'datasets').items():
        if isinstance(dataset, Mapping):
            place = f'datasets.{key}.type'
            yield from _name_errors(dataset, 'type', DATASET_REGISTRY.keys(), place, 'a registered data set')
    train = section_of(opt, 'train')
    yield from _optimizer_errors(train.get('optim_g'), 'train.optim_g')
    for loss in _LOSSES:
        yield from _callable_errors(train.get(loss), LOSS_REGISTRY, f'train.{loss}', 'a registered loss')
    for name, metric in section_of(section_of(opt, 'val'), 'metrics').items():
        given, extra = ('img', 'img2'), ('better',)
        yield from _callable_errors(metric, METRIC_REGISTRY, f'val.metrics.{name}', 'a registered metric', given, extra)


def known_optimizers() -> dict[str, Any]:
    """Returns the optimizers of `torch.optim` that BasicSR's training step can drive, by name."""
    import torch

    return {
        name: value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
        and name not in _NEEDS_CLOSURE
    }


def argument_errors(
    section: Mapping[str, Any],
    target: Callable[..., Any],
    where: str,
    given: Iterable[str] = (),
    extra: Iterable[str] = (),
) -> Iterator[str]:
    """Yields keys that are no arguments of a callable, and required arguments that are missing.

    Args:
        section: The options; `type` is left out of account.
        target: Function or class that gets them; its `**kwargs` do not count.
        where: Place of the section.
        given: Parameters that BasicSR fills itself.
        extra: Keys that are taken out before the call.
    """
    parameters = _parameters(target, given)
    known = [*parameters, *extra]
    for key in section:
        if key != 'type' and key not in known:
            yield f'`{where}.{key}` is not an argument of {target.__name__}.{suggestion(key, known)}'
    for name, required in parameters.items():
        if required and name not in section:
            yield f'`{where}.{name}` is missing: {target.__name__} requires it.'


def _network_errors(network: Any, where: str) -> Iterator[str]:
    from basicsr.utils.registry import ARCH_REGISTRY

    if not isinstance(network, Mapping):
        return
    what = 'a registered architecture'
    yield from _name_errors(network, 'type', ARCH_REGISTRY.keys(), f'{where}.type', what)
    architecture = _registered(ARCH_REGISTRY, network.get('type'))
    if architecture is None:
        return
    yield from argument_errors(network, architecture, where)
    if isinstance(base := network.get('base'), Mapping) and network['type'] == 'CompSRTNet':
        yield from _network_errors(base, f'{where}.base')
    elif 'quant' in _parameters(architecture) and network.get('quant') is not None:
        yield from QuantConfig.errors_of(network['quant'], f'{where}.quant')


def _callable_errors(
    section: Any, registry: Any, where: str, what: str, given: Iterable[str] = (), extra: Iterable[str] = ()
) -> Iterator[str]:
    if not isinstance(section, Mapping):
        return
    yield from _name_errors(section, 'type', registry.keys(), f'{where}.type', what)
    target = _registered(registry, section.get('type'))
    if target is not None and section['type'] not in _TYPED:
        yield from argument_errors(section, target, where, given, extra)


def _optimizer_errors(section: Any, where: str) -> Iterator[str]:
    if not isinstance(section, Mapping):
        return
    optimizers = known_optimizers()
    yield from _name_errors(section, 'type', optimizers, f'{where}.type', 'an optimizer of torch.optim')
    if isinstance(section.get('type'), str) and section['type'] in optimizers:
        yield from argument_errors(section, optimizers[section['type']], where, given=('params',))


def registered_network(name: Any) -> Callable[..., Any] | None:
    """Returns the architecture of a name, or None."""
    from basicsr.utils.registry import ARCH_REGISTRY

    return _registered(ARCH_REGISTRY, name)


def defaults_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Returns the arguments of a callable that have a default, and the defaults."""
    parameters = inspect.signature(target).parameters.items()
    return {name: p.default for name, p in parameters if p.default is not inspect.Parameter.empty}


def _name_errors(section: Mapping[str, Any], key: str, known: Iterable[str], where: str, what: str) -> Iterator[str]:
    """Yields an error when a name is not among the known ones; BasicSR also finds `<name>_basicsr`."""
    name, known = section.get(key), sorted(known)
    if isinstance(name, str) and name not in known and f'{name}_basicsr' not in known:
        yield f'`{where}`: {shown(name)} is not {what}.{suggestion(name, known)}'


def _registered(registry: Any, name: Any) -> Any | None:
    """Returns what a BasicSR registry holds under a name, without its printing, or None."""
    known = dict(iter(registry))  # `dict(registry)` would index it
    return (known.get(name) or known.get(f'{name}_basicsr')) if isinstance(name, str) else None


def _parameters(target: Callable[..., Any], given: Iterable[str] = ()) -> dict[str, bool]:
    """Returns the parameters of a callable, and whether each is required."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in named and name not in given
    }
