"""Contradictions between data sets and networks, and among data sets, that are known before anything is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compsrt_basicsr.config.check_registries import defaults_of, registered_network
from compsrt_basicsr.config.section import count_of, section_of

_NETWORKS = ('network_g', 'network_t')
_PAIRED = 'PairedImageDataset'
_PRESET = re.compile(r'compsrt_swinir_light_x(\d)_w\da\d')
# RRDBNet folds pixels into channels below x4: side of the fold by scale.
_FOLDS = {1: 4, 2: 2}


@dataclass(frozen=True)
class Needs:
    """What a network says of its images; 0 where it does not.

    Attributes:
        where: place of its arguments.
        scale: output over input side, and the argument that gives it.
        channels: of the input, and the argument that gives them.
        multiple: of which the sides of a training patch must be one, and the argument that says so.
    """

    where: str
    scale: tuple[int, str]
    channels: tuple[int, str]
    multiple: tuple[int, str]


def contradictions(opt: Mapping[str, Any], is_train: bool) -> Iterator[str]:
    """Yields a sentence for each contradiction.

    Args:
        opt: the options of a run, under today's names.
        is_train: training or testing.
    """
    datasets = {str(key): section_of(opt['datasets'], key) for key in section_of(opt, 'datasets')}
    yield from _shared_names(datasets)
    scale = count_of(opt.get('scale'))
    for network in _NETWORKS if is_train else _NETWORKS[:1]:
        needs = _needs(section_of(opt, network), network)
        if needs is None:
            continue
        given, name = needs.scale
        if given and scale and given != scale:
            yield f'`{needs.where}.{name}` is {given} but `scale` is {scale}: make them equal.'
        yield from _wrong_tail(section_of(opt, network), needs)
        for key, section in datasets.items():
            yield from _channel_errors(section, f'datasets.{key}', needs)
            if key == 'train':
                yield from _patch_errors(section, scale, needs)
    for key, section in datasets.items():
        yield from _normalization_errors(section, f'datasets.{key}')


def _shared_names(datasets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields data sets whose results would go to the same place."""
    places: dict[str, str] = {}
    for key, section in datasets.items():
        name = section.get('name')
        if key.split('_')[0] == 'train' or not isinstance(name, str):
            continue
        if name in places:
            yield (
                f'`datasets.{key}.name` is `{name}`, as is that of `datasets.{places[name]}`: give each its own, under '
                'which its results are kept.'
            )
        places.setdefault(name, key)


def _needs(network: Mapping[str, Any], where: str) -> Needs | None:
    kind = network.get('type')
    if kind == 'CompSRTNet':
        base = section_of(network, 'base')
        return _needs(base, f'{where}.base') if base.get('type') != kind else None
    target = registered_network(kind)
    if target is None:
        return None
    values = {**defaults_of(target), **{key: value for key, value in network.items() if value is not None}}
    if (preset := _PRESET.fullmatch(str(kind))) and network.get('upscale') is None:
        values['upscale'] = int(preset[1])
    scale = next((name for name in ('upscale', 'scale') if name in values), 'scale')
    channels = next((name for name in ('in_chans', 'num_in_ch') if name in values), 'in_chans')
    multiple, reason = 0, ''
    if kind == 'SwinIR' or kind == 'CompSRTSwinIR' or preset:
        multiple, reason = count_of(values.get('window_size')), 'window_size'
    elif kind == 'RRDBNet':
        multiple, reason = _FOLDS.get(count_of(values.get('scale')), 1), 'scale'
    return Needs(
        where, (count_of(values.get(scale)), scale), (count_of(values.get(channels)), channels), (multiple, reason)
    )


def _wrong_tail(network: Mapping[str, Any], needs: Needs) -> Iterator[str]:
    """Yields a SwinIR without an upsampler that is to enlarge."""
    arguments = section_of(network, 'base') or network
    target = registered_network(arguments.get('type'))
    values = {**(defaults_of(target) if target is not None else {}), **arguments}
    if needs.multiple[1] == 'window_size' and values.get('upsampler') == '' and needs.scale[0] > 1:
        yield (
            f'`{needs.where}.upsampler` is empty, which keeps the size, but `{needs.where}.upscale` is '
            f'{needs.scale[0]}: give one such as `pixelshuffledirect`.'
        )


def _channel_errors(section: Mapping[str, Any], where: str, needs: Needs) -> Iterator[str]:
    channels, name = needs.channels
    if section.get('type') != _PAIRED or section.get('color') not in (None, 'y') or not channels:
        return
    has = 1 if section.get('color') == 'y' else 3
    if channels == has:
        return
    remedy = {1: 'give `color: y`', 3: 'leave `color` out'}.get(channels, f'give `{needs.where}.{name}: {has}`')
    yield (
        f'`{where}.color`: images of this data set have {has} channel{"s" * (has > 1)}, but `{needs.where}.{name}` is '
        f'{channels}: {remedy}, or another `{name}`.'
    )


def _patch_errors(section: Mapping[str, Any], scale: int, needs: Needs) -> Iterator[str]:
    size, (multiple, reason) = count_of(section.get('gt_size')), needs.multiple
    if not (size and scale and multiple > 1) or size % scale or (size // scale) % multiple == 0:
        return
    step = multiple * scale
    near = max(size // step * step, step)
    yield (
        f'`datasets.train.gt_size` is {size}, so LR patches have {size // scale} pixels, no multiple of the {multiple} '
        f'that `{needs.where}.{reason}` asks for: take a multiple of {step}, such as {near}.'
    )


def _normalization_errors(section: Mapping[str, Any], where: str) -> Iterator[str]:
    mean, std = section.get('mean'), section.get('std')
    if section.get('type') != _PAIRED or mean is std is None:
        return
    if mean is None or std is None:
        yield f'`{where}.{"mean" if mean is None else "std"}` is missing: `mean` and `std` work together.'
        return
    channels = 1 if section.get('color') == 'y' else 3
    for name, values in (('mean', mean), ('std', std)):
        if isinstance(values, (list, tuple)) and len(values) not in (1, channels):
            yield f'`{where}.{name}` has {len(values)} numbers for images of {channels} channels: give one for each.'
    if isinstance(std, (list, tuple)) and 0 in std:
        yield f'`{where}.std` has a 0, by which nothing can be divided.'
