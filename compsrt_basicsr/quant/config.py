"""What to quantize and how, as frozen dataclasses validated when they are built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.ops.transform import TRANSFORMS

MIN_BITS, MAX_BITS = 2, 8
T = TypeVar('T')


@dataclass(frozen=True)
class QuantConfig:
    """The `quant:` section of a quantized architecture.

    Attributes:
        weight_bits: b of the weights, 2 to 8.
        act_bits: b of the activations, 2 to 8.
        code_range: 'strict': codes clamped to [0, 2^b - 1]; 'paper': the published formula, codes not clamped.
        transform: orthogonal transform of weights and activations along the contracted dimension; 'auto' is exact
            Hadamard where the order has one, else conference, else DCT; 'padded' the published zero-padded Sylvester.
        seed: seed of the transform 'random'.
        granularity: 'tensor' or 'channel': one weight quantizer per tensor or per output channel.
        convs: quantize the convolutions of the body too.
        head_tail: quantize the first and the last layers too.
        include: name patterns (fnmatch) of the linears and convolutions to quantize.
        exclude: name patterns of those to leave alone.
        execution: 'fake': fake quantization; 'integer': inference on integer codes. It changes how a checkpoint is
            run, not what it means, and may differ from the checkpoint's.
    """

    weight_bits: int = 4
    act_bits: int = 4
    code_range: str = 'strict'
    transform: str = 'auto'
    seed: int = 0
    granularity: str = 'tensor'
    convs: bool = False
    head_tail: bool = False
    include: tuple[str, ...] = ('*',)
    exclude: tuple[str, ...] = ()
    execution: str = field(default='fake', metadata={'runtime': True})

    def __post_init__(self) -> None:
        for name in ('weight_bits', 'act_bits'):
            _require_int(self, name, MIN_BITS, MAX_BITS)
        _require_int(self, 'seed', 0, 2**63 - 1)
        _require_choice(self, 'code_range', ('strict', 'paper'))
        _require_choice(self, 'transform', TRANSFORMS)
        _require_choice(self, 'granularity', ('tensor', 'channel'))
        _require_choice(self, 'execution', ('fake', 'integer'))
        if self.execution == 'integer' and (self.code_range != 'strict' or self.transform == 'padded'):
            raise CompSRTError(
                '`execution: integer` needs `code_range: strict` and an exact transform such as `auto` (unclamped '
                'codes fit no b bits, and a padded transform must be undone between codes and product), got '
                f' {self.code_range!r} and {self.transform!r}.'
            )
        for name in ('convs', 'head_tail'):
            _require_bool(self, name)
        for name in ('include', 'exclude'):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))

    @classmethod
    def from_opt(cls, opt: Mapping[str, Any] | QuantConfig | None) -> QuantConfig:
        """Builds a configuration from the options of a YAML file.

        Raises:
            CompSRTError: an unknown key (the nearest known one is named) or a value out of range.
        """
        return _from_opt(cls, opt, 'quant')


@dataclass(frozen=True)
class CalibrationConfig:
    """The `calibration:` section: how the bounds are found before training.

    Attributes:
        method: 'dobi': least squared error over shrinking bounds (2DQuant, arXiv 2406.06649); 'minmax': the range.
        search: 'two': both bounds move; 'one': only the upper one; 'auto': one-sided for tensors whose smallest value
            is their mode (2DQuant's rule, which its released code never applies), else two-sided.
        candidates: K, the number of bounds tried.
        num_patches: LR patches drawn from the training set.
        patch_size: LR side in pixels; default: gt_size / scale of the training set.
        seed: seed of the draw.
        file: a saved patch file to use in place of the training set.
    """

    method: str = 'dobi'
    search: str = 'auto'
    candidates: int = 100
    num_patches: int = 32
    patch_size: int | None = None
    seed: int = 0
    file: str | None = None

    def __post_init__(self) -> None:
        _require_choice(self, 'method', ('dobi', 'minmax'))
        _require_choice(self, 'search', ('auto', 'one', 'two'))
        _require_int(self, 'candidates', 1, 10_000)
        _require_int(self, 'num_patches', 1, 10_000)
        _require_int(self, 'seed', 0, 2**63 - 1)
        if self.patch_size is not None:
            _require_int(self, 'patch_size', 8, 4096)
        if self.file is not None and not isinstance(self.file, str):
            raise CompSRTError(f'`file` must be a path, got {self.file!r}.')

    @classmethod
    def from_opt(cls, opt: Mapping[str, Any] | CalibrationConfig | None) -> CalibrationConfig:
        """Builds a configuration from the options of a YAML file; raises CompSRTError like `QuantConfig.from_opt`."""
        return _from_opt(cls, opt, 'calibration')


def _from_opt(cls: type[T], opt: Mapping[str, Any] | T | None, section: str) -> T:
    if isinstance(opt, cls):
        return opt
    if opt is None:
        return cls()
    if not isinstance(opt, Mapping):
        raise CompSRTError(f'`{section}` must be a mapping of options, got {opt!r}.')
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = [f'`{k}` is not an option of `{section}`.{suggestion(k, known)}' for k in opt if k not in known]
    if unknown:
        raise CompSRTError(' '.join(unknown) + f' Known options: {", ".join(known)}.')
    return cls(**opt)


def _require_int(config: object, name: str, low: int, high: int) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CompSRTError(f'`{name}` must be a whole number from {low} to {high}, got {value!r}.')


def _require_choice(config: object, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in choices:
        raise CompSRTError(f'`{name}` must be one of {", ".join(choices)}, got {value!r}.{suggestion(value, choices)}')


def _require_bool(config: object, name: str) -> None:
    if not isinstance(getattr(config, name), bool):
        raise CompSRTError(f'`{name}` must be true or false, got {getattr(config, name)!r}.')


def _patterns(name: str, value: object) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise CompSRTError(f'`{name}` must be a name pattern or a list of them, got {value!r}.')
    return tuple(items)
