"""The strict check of a run's options: every fault is found before anything is built, and all are told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import path as osp
from typing import Any

from compsrt_basicsr.config import option_schema as schema
from compsrt_basicsr.config.option_check_data import dataset_faults, path_faults
from compsrt_basicsr.config.option_rules import (
    Section,
    argument_faults,
    as_section,
    choice_faults,
    explicit_parameters,
    is_number,
    is_whole,
    join,
    missing_faults,
    registered,
    section_faults,
)
from compsrt_basicsr.errors import CompSRTError, suggestion


def check_options(opt: Mapping[str, Any], is_train: bool, source: str = '') -> None:
    """Checks the options of a run of this package.

    Args:
        opt: The options, as read or as parsed.
        is_train: Training or testing.
        source: The option file, for the message.

    Raises:
        CompSRTError: There are faults; the message lists them all, each with its path and a near match.
    """
    faults = list(dict.fromkeys(find_faults(opt, is_train)))
    if not faults:
        return
    place = f' in {osp.basename(source)}' if source else ''
    if len(faults) == 1:
        raise CompSRTError(f'The options{place} have a fault: {faults[0]}')
    raise CompSRTError(f'The options{place} have {len(faults)} faults:' + ''.join(f'\n  - {fault}' for fault in faults))


def find_faults(opt: Mapping[str, Any], is_train: bool) -> Iterator[str]:
    """Yields every fault as a text."""
    from basicsr.utils.registry import MODEL_REGISTRY

    yield from section_faults(opt, schema.TOP_LEVEL, '')
    yield from missing_faults(opt, schema.TOP_LEVEL_REQUIRED, '')
    if opt.get('model_type') is not None:
        yield from choice_faults(opt['model_type'], MODEL_REGISTRY.keys(), 'model_type', 'a registered model')
    for network in schema.NETWORKS:
        if isinstance(opt.get(network), Mapping):
            yield from _network_faults(opt[network], network)
    yield from _scale_faults(opt)
    if isinstance(opt.get('datasets'), Mapping):
        yield from dataset_faults(opt['datasets'], is_train, opt.get('scale'))
    yield from path_faults(as_section(opt.get('path')))
    yield from _calibration_faults(opt)
    if is_train:
        yield from missing_faults(opt, schema.TRAIN_REQUIRED_SECTIONS, '')
    if isinstance(opt.get('train'), Mapping):
        yield from _train_faults(opt['train'])
        yield from _schedule_faults(opt)
    if isinstance(opt.get('logger'), Mapping):
        yield from _logger_faults(opt['logger'])
    if isinstance(opt.get('val'), Mapping):
        yield from _val_faults(opt['val'], is_train)


def _network_faults(network: Section, where: str) -> Iterator[str]:
    from basicsr.utils.registry import ARCH_REGISTRY

    from compsrt_basicsr.config.quantization import QuantConfig

    yield from choice_faults(
        network.get('type'), ARCH_REGISTRY.keys(), join(where, 'type'), 'a registered architecture'
    )
    architecture = registered(ARCH_REGISTRY, network.get('type'))
    if architecture is None:
        return
    yield from argument_faults(network, architecture, where)
    if 'quant' in explicit_parameters(architecture) and network.get('quant') is not None:
        yield from _config_faults(QuantConfig, network['quant'], join(where, 'quant'))


def _config_faults(config: Any, section: Any, where: str) -> Iterator[str]:
    """Yields what a configuration class says against a section."""
    try:
        config.from_opt(section)
    except CompSRTError as error:
        yield f'`{where}`: {error}'


def _calibration_faults(opt: Section) -> Iterator[str]:
    from compsrt_basicsr.config.quantization import CalibrationConfig

    section = opt.get('calibration')
    if not isinstance(section, Mapping):
        return
    yield from _config_faults(CalibrationConfig, section, 'calibration')
    yield from _faults_beside_quant(opt, 'calibration', CalibrationConfig, section)
    file = section.get('file')
    if isinstance(file, str) and not osp.isfile(osp.expanduser(file)):
        yield f'`calibration.file`: `{file}` does not exist.'


def _scale_faults(opt: Section) -> Iterator[str]:
    upscale, scale = as_section(opt.get('network_g')).get('upscale'), opt.get('scale')
    if is_whole(upscale) and is_whole(scale) and upscale != scale:
        yield f'`network_g.upscale` is {upscale} but `scale` is {scale}: make them equal.'


def _train_faults(train: Section) -> Iterator[str]:
    yield from section_faults(train, schema.TRAIN, 'train')
    yield from missing_faults(train, schema.TRAIN_REQUIRED, 'train')
    if isinstance(train.get('optim_g'), Mapping):
        yield from _optimizer_faults(train['optim_g'], 'train.optim_g')
    if isinstance(train.get('scheduler'), Mapping):
        yield from _scheduler_faults(train['scheduler'], train.get('total_iter'), 'train.scheduler')
    for loss in schema.LOSSES:
        if isinstance(train.get(loss), Mapping):
            yield from _loss_faults(train[loss], join('train', loss))


def _schedule_faults(opt: Section) -> Iterator[str]:
    """Yields what is wrong with `train.prune_schedule`, alone and beside `network_g.quant`."""
    from compsrt_basicsr.config.quantization import PruneSchedule

    train, where = opt['train'], 'train.prune_schedule'
    if not isinstance(train.get('prune_schedule'), Mapping):
        return
    yield from _config_faults(PruneSchedule, train['prune_schedule'], where)
    if is_number(train.get('total_iter')):
        yield from _faults_beside_quant(opt, where, PruneSchedule, train['prune_schedule'], train['total_iter'])


def _faults_beside_quant(opt: Section, where: str, config: Any, section: Any, *more: Any) -> Iterator[str]:
    """Yields what a section's `check` says against `network_g.quant`, if both are valid for themselves."""
    from compsrt_basicsr.config.quantization import QuantConfig

    try:
        quant = QuantConfig.from_opt(as_section(opt.get('network_g')).get('quant'))
        chosen = config.from_opt(section)
    except CompSRTError:
        return
    try:
        chosen.check(quant, *more)
    except CompSRTError as error:
        yield f'`{where}`: {error}'


def _optimizer_faults(section: Section, where: str) -> Iterator[str]:
    from compsrt_basicsr.basicsr_compat.optimizers import known_optimizers

    optimizers = known_optimizers()
    yield from choice_faults(section.get('type'), optimizers, join(where, 'type'), 'an optimizer of torch.optim')
    if section.get('type') in optimizers:
        yield from argument_faults(section, optimizers[section['type']], where, given=('params',))
    rate = section.get('lr')
    if rate is None:
        yield f'`{where}.lr` is missing.'
    elif not is_number(rate) or rate <= 0:
        yield f'`{where}.lr` must be a number above 0, got `{rate}`.'


def _scheduler_faults(section: Section, total: Any, where: str) -> Iterator[str]:
    from basicsr.models import lr_scheduler

    kind = section.get('type')
    yield from choice_faults(kind, schema.SCHEDULERS, join(where, 'type'), 'a scheduler of BasicSR')
    if kind not in schema.SCHEDULERS:
        return
    target = getattr(lr_scheduler, schema.SCHEDULERS[kind])
    yield from argument_faults(section, target, where, given=('optimizer', 'last_epoch'))
    for key in ('milestones', 'periods', 'restarts', 'restart_weights'):
        value = section.get(key, [])
        if key in explicit_parameters(target) and not (isinstance(value, list) and all(map(is_number, value))):
            yield f'`{where}.{key}` must be a list of numbers, got `{value}`.'
            return
    counted = 'periods' if kind.startswith('Cosine') else 'restarts'
    weights = len(section.get('restart_weights', [1]))
    if len(section.get(counted, [0])) != weights:
        yield f'`{where}.{counted}` and `{where}.restart_weights` must have the same length.'
    if counted == 'periods' and is_number(total) and 0 < sum(section.get('periods', [])) < total:
        yield f'`{where}.periods` end at iteration {sum(section["periods"])}, before `train.total_iter` ({total}).'


def _loss_faults(section: Section, where: str) -> Iterator[str]:
    from basicsr.utils.registry import LOSS_REGISTRY

    yield from choice_faults(section.get('type'), LOSS_REGISTRY.keys(), join(where, 'type'), 'a registered loss')
    loss = registered(LOSS_REGISTRY, section.get('type'))
    if loss is not None:
        yield from argument_faults(section, loss, where)


def _logger_faults(section: Section) -> Iterator[str]:
    yield from section_faults(section, schema.LOGGER, 'logger')
    yield from missing_faults(section, schema.LOGGER_REQUIRED, 'logger')
    wandb = as_section(section.get('wandb'))
    yield from section_faults(wandb, schema.WANDB, 'logger.wandb')
    if wandb.get('project') is not None and section.get('use_tb_logger') is not True:
        yield '`logger.wandb.project` needs `logger.use_tb_logger: true`.'


def _val_faults(section: Section, is_train: bool) -> Iterator[str]:
    from basicsr.utils.registry import METRIC_REGISTRY

    yield from section_faults(section, schema.VAL, 'val')
    if is_train:
        yield from missing_faults(section, ('val_freq',), 'val')
    for name, metric in as_section(section.get('metrics')).items():
        where = f'val.metrics.{name}'
        if not isinstance(metric, Mapping):
            yield f'`{where}` must be a section with a `type`.'
            continue
        yield from choice_faults(metric.get('type'), METRIC_REGISTRY.keys(), f'{where}.type', 'a registered metric')
        function = registered(METRIC_REGISTRY, metric.get('type'))
        if function is not None:
            yield from argument_faults(metric, function, where, given=('img', 'img2'), extra=('better',))
        if metric.get('better', 'higher') not in ('higher', 'lower'):
            better = metric['better']
            yield f'`{where}.better` must be `higher` or `lower`.{suggestion(better, ("higher", "lower"))}'
