"""From MODEL to a full-precision network, and what is known of its terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compsrt_basicsr.checkpoints.find import find_file, full_name, short_name
from compsrt_basicsr.checkpoints.load import FULL_PRECISION, QUANTIZED, LoadedNetwork, load_network
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import SCHEME

_OPTION_FILES = ('.yml', '.yaml')
_SPANDREL = 'spandrel'


@dataclass(frozen=True)
class Source:
    """A network in full precision.

    Attributes:
        loaded: the network.
        name: of the model, for files and titles.
        file: its weight file.
        param_key: entry of the file with the weights.
        licence, origin: of the weights; None where they are not known.
    """

    loaded: LoadedNetwork
    name: str
    file: Path
    param_key: str = 'params_ema'
    licence: str | None = None
    origin: str | None = None

    @property
    def section(self) -> dict[str, Any]:
        """The section `network_t` of an option file: `type` and arguments, or `checkpoint`, which has the weights."""
        if self.has_own_weights:
            return {'type': _SPANDREL, 'checkpoint': str(self.file.resolve())}
        return {'type': self.loaded.record['arch'], **self.loaded.record['args']}

    @property
    def has_own_weights(self) -> bool:
        """Whether `section` names the file of the weights too."""
        return bool(self.loaded.record['arch'] == _SPANDREL)


def load_source(model: str, licence: str | None = None, origin: str | None = None) -> Source:
    """Loads what is to be compressed.

    Args:
        model: a weight file, a name of the zoo, or an option file with `network_g` and `path.pretrain_network_g`.
        licence, origin: of the weights; None: as the zoo says.

    Raises:
        CompSRTError: if it cannot be loaded, is quantized already, or is no network from images to images.
    """
    if Path(model).suffix.lower() in _OPTION_FILES:
        return _from_option_file(Path(model), licence, origin)
    loaded = load_network(model)
    if loaded.kind == QUANTIZED:
        raise CompSRTError(f'`{model}` is quantized already: give the network in full precision that it was made from.')
    _check_channels(loaded)
    if full_name(model).startswith(SCHEME):
        from compsrt_basicsr.hub.catalog import find

        entry = find(full_name(model)).entry
        licence, origin = licence or _stated(entry.licence), origin or _stated(entry.origin)
    return Source(loaded, short_name(model), find_file(model), licence=licence, origin=origin)


def _stated(text: str) -> str | None:
    return None if text == 'not stated' else text


def _check_channels(loaded: LoadedNetwork) -> None:
    if loaded.channels not in (1, 3):
        raise CompSRTError(
            f'`{loaded.source}` takes {loaded.channels} channels, not grey or RGB: there are no images to calibrate on.'
        )


def _from_option_file(file: Path, licence: str | None, origin: str | None) -> Source:
    from compsrt_basicsr.config.option_file import read_option_file
    from compsrt_basicsr.config.section import section_of
    from compsrt_basicsr.models.weights import load_weights

    opt = read_option_file(str(file))[0]
    path = section_of(opt, 'path')
    sides = [side for side in ('t', 'g') if isinstance(opt.get(f'network_{side}'), Mapping)]
    if not sides or not path.get(f'pretrain_network_{sides[0]}'):
        raise CompSRTError(
            f'The option file `{file}` does not name a network with weights: give `network_g` and '
            '`path.pretrain_network_g`.'
        )
    network, arguments = _built(opt[f'network_{sides[0]}'])
    weights, key = str(path[f'pretrain_network_{sides[0]}']), str(path.get(f'param_key_{sides[0]}', 'params'))
    load_weights(network, weights, strict=True, param_key=key, skip_misfits=False)
    record = {'arch': arguments.pop('type'), 'args': arguments, 'quant': None}
    loaded = _loaded(network, record, weights, opt.get('scale'))
    _check_channels(loaded)
    return Source(loaded, file.stem, find_file(weights), key, licence, origin)


def _built(section: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY, is_architecture
    from compsrt_basicsr.errors import suggestion
    from compsrt_basicsr.quant.quantizer import quantizers

    arguments = {**section}
    name = arguments.get('type')
    if not is_architecture(name):
        raise CompSRTError(
            f'`network_g.type` {name!r:.40} is not a registered architecture.'
            f'{suggestion(str(name), ARCH_REGISTRY.keys())}'
        )
    given = {key: value for key, value in arguments.items() if key != 'type'}
    try:
        network = ARCH_REGISTRY.get(name)(**given)
    except TypeError as error:
        raise CompSRTError(f'The arguments of `network_g` do not fit {name}: {error}.') from error
    if quantizers(network):
        raise CompSRTError(f'`{name}` is quantized already: give the option file of a network in full precision.')
    return network, arguments


def _loaded(network: Any, record: dict[str, Any], source: str, scale: Any) -> LoadedNetwork:
    from compsrt_basicsr.archs.rebuild import Geometry, geometry

    try:
        shape = geometry(record, network)
    except CompSRTError:
        if not isinstance(scale, int):
            raise
        shape = Geometry(scale, int(record['args'].get('window_size', 1)), 3)
    network = network.eval().requires_grad_(False)
    return LoadedNetwork(network, shape.scale, shape.multiple, shape.channels, FULL_PRECISION, source, record)
