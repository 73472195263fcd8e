"""The check of all options of a run before anything is built: every error is found, and all are reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from os import path as osp
from typing import Any

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.check_data import contradictions
from compsrt_basicsr.config.check_files import file_errors
from compsrt_basicsr.config.check_registries import registry_errors
from compsrt_basicsr.config.check_unread import unread_options
from compsrt_basicsr.config.datasets import training_gaps
from compsrt_basicsr.config.methods.expand import RATES_OF_WEIGHTS, expand_network, place_method
from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.config.networks import has_own_weights
from compsrt_basicsr.config.pruning import PruneSchedule
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.renames import rename_run
from compsrt_basicsr.config.run import SET_BY_PARSING, SET_IN_DATASET, SET_IN_PATH, RunOptions
from compsrt_basicsr.config.section import count_of, section_of
from compsrt_basicsr.config.validation import NO_COUNT
from compsrt_basicsr.errors import CompSRTError


def check_options(
    opt: Mapping[str, Any], is_train: bool, source: str = '', find_model: Callable[[str], Any] | None = None
) -> None:
    """Checks the options of a run of this package.

    Args:
        opt: The options, as read or as parsed; old names are read too.
        is_train: Training or testing.
        source: The option file, for the message.
        find_model: Raises CompSRTError for a `zoo://` name that no zoo has; None does not look such names up.

    Raises:
        CompSRTError: there are errors; the message lists them all, each with its place and the nearest known name.
    """
    errors = list(find_errors(opt, is_train, find_model))
    if not errors:
        return
    place = f' in {osp.basename(source)}' if source else ''
    if len(errors) == 1:
        raise CompSRTError(f'The options{place} have an error: {errors[0]}')
    raise CompSRTError(f'The options{place} have {len(errors)} errors:' + ''.join(f'\n  - {error}' for error in errors))


def find_errors(
    opt: Mapping[str, Any], is_train: bool, find_model: Callable[[str], Any] | None = None
) -> Iterator[str]:
    """Yields every error as a sentence that starts with its place, one for each place."""
    try:
        resolved = resolve(opt)
    except CompSRTError as conflict:  # an option under its old and its new name
        yield str(conflict)
        return
    places = set()
    for error in _all_errors(resolved, is_train, find_model):
        place = error.split('`')[1] if '`' in error else error
        if place not in places:
            places.add(place)
            yield error


def _all_errors(opt: Mapping[str, Any], is_train: bool, find_model: Callable[[str], Any] | None) -> Iterator[str]:
    yield from RunOptions.errors_of(opt)
    yield from registry_errors(opt)
    if is_train:
        yield from (f'`{key}` is missing.' for key in ('train', 'logger') if opt.get(key) is None)
    if isinstance(opt.get('datasets'), Mapping):
        yield from _dataset_errors(opt['datasets'], is_train, opt.get('scale'))
    yield from file_errors(opt, find_model)
    yield from contradictions(opt, is_train)
    yield from unread_options(opt, is_train)
    if is_train:
        yield from _model_errors(opt)
    yield from _training_errors(opt)
    yield from _validation_errors(opt, is_train)


def resolve(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy under today's names, completed by its method, and without what parsing has added."""
    result = deepcopy({key: value for key, value in opt.items() if key not in SET_BY_PARSING})
    rename_run(result)
    for key, names in (('path', SET_IN_PATH), *((name, SET_IN_DATASET) for name in section_of(result, 'datasets'))):
        owner = result if key == 'path' else result['datasets']
        if isinstance(owner.get(key), Mapping):
            owner[key] = {name: value for name, value in owner[key].items() if name not in names}
    if result.get('method') in (None, *METHODS):
        place_method(result)
        expand_network(result)
    return result


def _dataset_errors(datasets: Mapping[str, Any], is_train: bool, scale: Any) -> Iterator[str]:
    """Yields data sets of the wrong phase, and options that their phase requires or excludes."""
    allowed = ('train', 'val') if is_train else ('test', 'val')
    for key, section in datasets.items():
        where, phase = f'datasets.{key}', str(key).split('_')[0]
        if phase not in allowed:
            wanted = '`train`, `val` or `val_…`' if is_train else '`test`, `test_…`, `val` or `val_…`'
            yield f'`{where}`: when {"training" if is_train else "testing"} a data set must be called {wanted}.'
        elif isinstance(section, Mapping):
            yield from _one_dataset_errors(section, where, phase, scale)
    if is_train and 'train' not in datasets:
        yield '`datasets.train` is missing.'
    elif not datasets:
        yield '`datasets` is empty: add a section `test_1`.'


def _one_dataset_errors(section: Mapping[str, Any], where: str, phase: str, scale: Any) -> Iterator[str]:
    if phase == 'train':
        yield from (f'`{where}.{name}` is missing.' for name in training_gaps(section))
        if section.get('prefetch_mode') == 'cuda' and section.get('pin_memory') is not True:
            yield f'`{where}.prefetch_mode`: `cuda` needs `pin_memory: true`.'
    size = section.get('gt_size')
    if count_of(size) and count_of(scale) and size % scale:
        yield f'`{where}.gt_size` is {size}, which `scale` {scale} does not divide: take a multiple of {scale}.'


def _model_errors(opt: Mapping[str, Any]) -> Iterator[str]:
    """Yields what a distillation lacks."""
    model, train = opt.get('model_type'), section_of(opt, 'train')
    if model != 'CompSRTModel':
        return
    if opt.get('network_t') is None:
        yield '`network_t` is missing: CompSRTModel learns from a teacher.'
    own = has_own_weights(section_of(opt, 'network_t'))
    if section_of(opt, 'path').get('pretrain_network_t') is None and not own:
        yield "`path.pretrain_network_t` is missing: give the teacher's weights."
    trainable = train.get('trainable') or 'quantizers'
    if trainable != 'none' and train.get('pixel_opt') is None and train.get('feature_opt') is None:
        yield '`train.pixel_opt` is missing: give `train.pixel_opt`, `train.feature_opt`, or both.'
    if trainable == 'quantizers':
        rates = [rate for rate in RATES_OF_WEIGHTS if train.get(rate) is not None]
        yield from (f'`train.{rate}` needs `train.trainable: all`: the weights are frozen.' for rate in rates)


def _training_errors(opt: Mapping[str, Any]) -> Iterator[str]:
    """Yields sections that do not go with what is quantized, and schedules that end before the training."""
    train = section_of(opt, 'train')
    total = train.get('total_iter')
    yield from _conflicts(opt, opt.get('calibration'), CalibrationConfig, 'calibration')
    if isinstance(total, (int, float)):
        yield from _conflicts(opt, train.get('prune_schedule'), PruneSchedule, 'train.prune_schedule', total)
        periods = section_of(train, 'scheduler').get('periods')
        if isinstance(periods, list) and all(count_of(period) for period in periods) and sum(periods) < total:
            yield f'`train.scheduler.periods` end at iteration {sum(periods)}, before `train.total_iter` ({total}).'


def _conflicts(opt: Mapping[str, Any], section: Any, model: type[Options], where: str, *more: Any) -> Iterator[str]:
    """Yields what the `check` of a section says against `network_g.quant`, if both are valid by themselves."""
    quant = section_of(opt, 'network_g').get('quant')
    if not isinstance(section, Mapping) or model.errors_of(section) or QuantConfig.errors_of(quant or {}):
        return
    try:
        model.from_opt(section).check(QuantConfig.from_opt(quant), *more)  # type: ignore[attr-defined]
    except CompSRTError as error:
        yield f'`{where}`: {error}'


def _validation_errors(opt: Mapping[str, Any], is_train: bool) -> Iterator[str]:
    val = opt.get('val')
    if not isinstance(val, Mapping):
        return
    if is_train and val.get('val_freq') is None:
        yield '`val.val_freq` is missing.'
    execution = section_of(section_of(opt, 'network_g'), 'quant').get('execution')
    if not is_train and execution == 'integer' and val.get('count_codes') == 'all':
        yield f'`network_g.quant.execution`: `integer` {NO_COUNT}'
