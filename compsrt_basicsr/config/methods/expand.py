"""A method's options, filled in where an option file leaves them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import Any

from compsrt_basicsr.config.methods.method import Method, Options, complete, differences
from compsrt_basicsr.config.methods.presets import METHODS, get_method

RATES_OF_WEIGHTS = ('weight_lr', 'unquantized_lr')


def expand_quant(quant: Mapping[str, Any]) -> Options:
    """Returns the section `quant` completed with the options of its `method`, if it names one.

    Raises:
        CompSRTError: there is no such method.
    """
    if quant.get('method') is None:
        return dict(quant)
    return complete(quant, get_method(quant['method']).quant)


def place_method(opt: MutableMapping[str, Any]) -> None:
    """Writes the `method` of a run into `network_g.quant`, in place, so that the network is built with it."""
    network = opt.get('network_g')
    if opt.get('method') is None or not isinstance(network, MutableMapping):
        return
    quant = network.get('quant')
    if quant is None or isinstance(quant, Mapping):
        network['quant'] = {**(quant or {}), 'method': opt['method']}


def expand_network(opt: MutableMapping[str, Any]) -> None:
    """Completes `network_g.quant` of a run with the options of its `method`, in place, as building the network does.

    Raises:
        CompSRTError: there is no such method.
    """
    network = opt.get('network_g')
    if isinstance(network, MutableMapping) and isinstance(network.get('quant'), Mapping):
        network['quant'] = expand_quant(network['quant'])


def expand_run(opt: MutableMapping[str, Any]) -> None:
    """Completes a training run with the options of its `method`, in place.

    The method is that of the run, or, where it has none, of `network_g.quant`. It completes `calibration` and `train`
    here, and `quant` when the network is built. A cosine schedule without `periods` gets one of `total_iter`. The rates
    of weights are left out where the weights stay frozen. `trainable: none` sets `total_iter` to 0: the run ends after
    calibration. A method that does not exist is left to the check. Expanding twice is expanding once.
    """
    place_method(opt)
    method = method_of(opt)
    train = opt.get('train')
    if not isinstance(train, MutableMapping):
        return
    if method is not None:
        _fill(opt, train, method)
    if train.get('trainable') == 'none':
        train['total_iter'] = 0
    if method is not None:
        _set_period(train)


def _fill(opt: MutableMapping[str, Any], train: MutableMapping[str, Any], method: Method) -> None:
    calibration = opt.get('calibration')
    if calibration is None or isinstance(calibration, Mapping):
        opt['calibration'] = complete(calibration or {}, method.calibration)
    preset = method.train
    if train.get('trainable', preset['trainable']) != 'all':
        preset = {key: value for key, value in preset.items() if key not in RATES_OF_WEIGHTS}
    train.update(complete(train, preset))


def _set_period(train: Mapping[str, Any]) -> None:
    scheduler, total = train.get('scheduler'), train.get('total_iter')
    if not isinstance(scheduler, MutableMapping) or not isinstance(total, (int, float)) or not math.isfinite(total):
        return
    if scheduler.get('type') == 'CosineAnnealingRestartLR' and scheduler.get('periods') is None:
        scheduler['periods'] = [max(int(total), 1)]


def overridden(opt: Mapping[str, Any]) -> list[str]:
    """Returns what the options of a run, expanded or not, change in their method."""
    method = method_of(opt)
    if method is None:
        return []
    quant = (opt.get('network_g') or {}).get('quant') or {}
    found = differences(quant, method.quant, 'quant')
    found += differences(opt.get('calibration') or {}, method.calibration, 'calibration')
    return found + differences(opt.get('train') or {}, method.train, 'train')


def method_of(opt: Mapping[str, Any]) -> Method | None:
    """Returns the method that a run names, None for none and for one that does not exist."""
    name = opt.get('method')
    if name is None:
        network = opt.get('network_g')
        quant = network.get('quant') if isinstance(network, Mapping) else None
        name = quant.get('method') if isinstance(quant, Mapping) else None
    return METHODS.get(name) if isinstance(name, str) else None
