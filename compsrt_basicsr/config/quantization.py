"""What to quantize and how, as frozen dataclasses validated when they are built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from compsrt_basicsr.config.methods.expand import expand_quant
from compsrt_basicsr.errors import CompSRTError, suggestion

MIN_BITS, MAX_BITS = 2, 8
TRANSFORMS = ('auto', 'hadamard', 'conference', 'padded', 'dct', 'random', 'none')
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
        attention_transform: transform q and k along the head dimension too.
        softmax: the operand of the product with v: 'normalized': the softmax, as published; 'deferred': its numerator
            exp(logit - largest of the row), whose sum over the row divides the product's result instead.
        granularity: 'tensor' or 'channel': one weight quantizer per tensor or per output channel.
        operands: 'both', 'weights' or 'activations': what is quantized; the rest stays float.
        symmetric: 'none', 'weights' or 'both': whose zero point is fixed, so that 0 has a code and the step alone is
            free: codes from -2^(b-1) s, or from 0 for activations that are never negative.
        bounds: train l and u; false: they stay as calibrated.
        scale_offset: train alpha; false: it stays 0.
        zero_offset: train beta; false: it stays 0.
        step_gradient: 'none', or 'lsq': the gradient of a step over sqrt(N Q_P), N elements (LSQ, arXiv 1902.08153).
        convs: quantize the convolutions of the body too.
        head_tail: quantize the first and the last layers too.
        include: name patterns (fnmatch) of the linears and convolutions to quantize.
        exclude: name patterns of those to leave alone.
        prune_ratio: p, share of the transformed weights that is set to zero, 0 to below 1; N:M implies 1 - N/M.
        prune_scope: 'layer' or 'global': p of each weight tensor, or of all together.
        prune_pattern: 'unstructured': single coefficients; 'channel': output channels; 'N:M', such as '2:4': all but
            the N largest of each M neighbours along the contracted dimension.
        execution: 'fake': fake quantization; 'integer': inference on integer codes. It changes how a checkpoint is
            run, not what it means, and may differ from the checkpoint's.
        method: the preset of config/methods that `from_opt` took options from; a name, without effect here.
    """

    weight_bits: int = 4
    act_bits: int = 4
    code_range: str = 'strict'
    transform: str = 'auto'
    seed: int = 0
    attention_transform: bool = True
    softmax: str = 'normalized'
    granularity: str = 'tensor'
    operands: str = 'both'
    symmetric: str = 'none'
    bounds: bool = True
    scale_offset: bool = True
    zero_offset: bool = True
    step_gradient: str = 'none'
    convs: bool = False
    head_tail: bool = False
    include: tuple[str, ...] = ('*',)
    exclude: tuple[str, ...] = ()
    prune_ratio: float = 0.0
    prune_scope: str = 'layer'
    prune_pattern: str = 'unstructured'
    execution: str = field(default='fake', metadata={'runtime': True})
    method: str | None = field(default=None, metadata={'runtime': True})

    def __post_init__(self) -> None:
        for name in ('weight_bits', 'act_bits'):
            _require_int(self, name, MIN_BITS, MAX_BITS)
        _require_int(self, 'seed', 0, 2**63 - 1)
        _require_choice(self, 'code_range', ('strict', 'paper'))
        _require_choice(self, 'transform', TRANSFORMS)
        _require_choice(self, 'softmax', ('normalized', 'deferred'))
        _require_choice(self, 'granularity', ('tensor', 'channel'))
        _require_choice(self, 'operands', ('both', 'weights', 'activations'))
        _require_choice(self, 'symmetric', ('none', 'weights', 'both'))
        _require_choice(self, 'step_gradient', ('none', 'lsq'))
        for name in ('attention_transform', 'convs', 'head_tail', 'bounds', 'scale_offset', 'zero_offset'):
            _require_bool(self, name)
        if self.method is not None and not isinstance(self.method, str):
            raise CompSRTError(f'`method` must be the name of a method, got {self.method!r}.')
        self._check_grids()
        for name in ('include', 'exclude'):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))
        _require_choice(self, 'prune_scope', ('layer', 'global'))
        self._check_pruning()

    def _check_grids(self) -> None:
        if self.symmetric != 'none' and self.code_range != 'strict':
            raise CompSRTError(
                f'`symmetric: {self.symmetric}` needs `code_range: strict`: the published formula has no such grid.'
            )
        if self.softmax == 'deferred' and self.transform == 'padded' and self.attention_transform:
            raise CompSRTError(
                '`softmax: deferred` sums the quantized rows of the attention, which `transform: padded` transforms: '
                'add `attention_transform: false`, or take an exact transform such as `auto`.'
            )
        _require_choice(self, 'execution', ('fake', 'integer'))
        if self.execution != 'integer':
            return
        if self.code_range != 'strict' or self.transform == 'padded':
            raise CompSRTError(
                '`execution: integer` needs `code_range: strict` and an exact transform such as `auto` (unclamped '
                'codes fit no b bits, and a padded transform must be undone between codes and product), got '
                f' {self.code_range!r} and {self.transform!r}.'
            )
        if self.operands != 'both':
            raise CompSRTError(
                '`execution: integer` needs `operands: both`: a product with float numbers is not one of integers, '
                f'got {self.operands!r}.'
            )

    def _check_pruning(self) -> None:
        ratio = self.prune_ratio
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
            raise CompSRTError(f'`prune_ratio` must be a number from 0 to below 1, got {ratio!r}.')
        object.__setattr__(self, 'prune_ratio', float(ratio))
        if self.operands == 'activations' and (ratio or self.n_of_m):
            raise CompSRTError('Pruning needs quantized weights: leave it out, or set `operands` to both or weights.')
        if self.n_of_m is None:
            if self.prune_pattern not in ('unstructured', 'channel'):
                raise CompSRTError(
                    "`prune_pattern` must be 'unstructured', 'channel' or N:M in quotes with 1 <= N < M <= 64, such as "
                    f"'2:4', got {self.prune_pattern!r}.{suggestion(self.prune_pattern, ('unstructured', 'channel'))}"
                )
            return
        n, m = self.n_of_m
        if ratio != 0 and not math.isclose(ratio, 1 - n / m, abs_tol=1e-6):
            raise CompSRTError(
                f'`prune_pattern` {self.prune_pattern} prunes {1 - n / m:g} of the weights, `prune_ratio` says '
                f'{ratio:g}: leave `prune_ratio` out.'
            )
        if self.prune_scope == 'global':
            raise CompSRTError(f'`prune_pattern` {self.prune_pattern} has no `prune_scope: global`: leave it out.')
        object.__setattr__(self, 'prune_ratio', 1 - n / m)

    @property
    def prunes(self) -> bool:
        """True where weights are pruned."""
        return self.prune_ratio > 0

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of the pattern N:M, None for other patterns."""
        match = re.fullmatch(r'([1-9]\d?):([1-9]\d?)', str(self.prune_pattern))
        if match is None or not int(match[1]) < int(match[2]) <= 64:
            return None
        return int(match[1]), int(match[2])

    @classmethod
    def from_opt(cls, opt: Mapping[str, Any] | QuantConfig | None) -> QuantConfig:
        """Builds a configuration from the options of a YAML file; its `method` gives those that are left out.

        Raises:
            CompSRTError: an unknown key or method (the nearest known one is named) or a value out of range.
        """
        return _from_opt(cls, expand_quant(opt) if isinstance(opt, Mapping) else opt, 'quant')

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> QuantConfig:
        """Builds a configuration from what a checkpoint or packed file holds.

        Options that were unknown to its version have their defaults, whatever the method of that name is today.

        Raises:
            CompSRTError: as `from_opt`.
        """
        return _from_opt(cls, record, 'quant')


@dataclass(frozen=True)
class CalibrationConfig:
    """The `calibration:` section: how the bounds are found before training.

    Attributes:
        method: 'dobi': least squared error over shrinking bounds (2DQuant, arXiv 2406.06649); 'minmax': the range;
            'percentile'; 'lsq': 2 mean|v| / sqrt(Q_P) as the step (LSQ, arXiv 1902.08153); 'lsq+': three sigmas of
            weights, DOBI for activations (LSQ+, arXiv 2004.09576).
        percentile: p of 'percentile': the bounds are the (100 - p)-th and the p-th percentile; above 50 to 100.
        search: 'two': both bounds move; 'one': only the upper one; 'auto': one-sided for tensors whose smallest value
            is their mode (2DQuant's rule, which its released code never applies), else two-sided.
        candidates: K, the number of bounds tried.
        precondition: lambda of `ops.condition`: lowers the condition numbers of the linears' weights first, in the
            manner of CondiQuant (arXiv 2502.15478); 0: the weights stay as they are.
        precondition_steps: its proximal gradient steps.
        reconstruct: calibrate in the order of execution and refit layers, weights and biases, to the full-precision
            network (quant/reconstruct.py); false: each quantizer sees full precision, as published, and the weights
            stay as they are. Strict range and exact transforms only.
        num_patches: LR patches drawn from the training set.
        patch_size: LR side in pixels; default: gt_size / scale of the training set.
        seed: seed of the draw.
        file: a saved patch file to use in place of the training set.
    """

    method: str = 'dobi'
    percentile: float = 99.9
    search: str = 'auto'
    candidates: int = 100
    precondition: float = 0.0
    precondition_steps: int = 30
    reconstruct: bool = False
    num_patches: int = 32
    patch_size: int | None = None
    seed: int = 0
    file: str | None = None

    def __post_init__(self) -> None:
        _require_choice(self, 'method', ('dobi', 'minmax', 'percentile', 'lsq', 'lsq+'))
        _require_number(self, 'percentile', 50, 100, open_below=True)
        _require_number(self, 'precondition', 0, 100)
        _require_int(self, 'precondition_steps', 1, 10_000)
        _require_bool(self, 'reconstruct')
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

    def check(self, quant: QuantConfig) -> None:
        """Holds the section against what is quantized.

        Raises:
            CompSRTError: `reconstruct` does not go with the range or the transform.
        """
        if self.reconstruct and (quant.code_range != 'strict' or quant.transform == 'padded'):
            raise CompSRTError(
                '`reconstruct` needs `quant.code_range: strict` and an exact transform such as `auto`, got '
                f'{quant.code_range!r} and {quant.transform!r}: set `calibration.reconstruct: false`.'
            )


@dataclass(frozen=True)
class PruneSchedule:
    """The `train.prune_schedule:` section: pruning grows with training (Zhu and Gupta, arXiv 1710.01878).

    Attributes:
        begin: iteration from which the pruned share grows.
        end: iteration that reaches `prune_ratio`.
        frequency: iterations between two new sets of masks.
    """

    begin: int = 0
    end: int = 1000
    frequency: int = 100

    def __post_init__(self) -> None:
        for name, low in (('begin', 0), ('end', 1), ('frequency', 1)):
            _require_int(self, name, low, 10**9)
        if self.begin >= self.end:
            raise CompSRTError(f'`begin` {self.begin} must come before `end` {self.end}.')

    @classmethod
    def from_opt(cls, opt: Mapping[str, Any] | PruneSchedule | None) -> PruneSchedule:
        """Builds a schedule from the options of a YAML file; raises CompSRTError like `QuantConfig.from_opt`."""
        return _from_opt(cls, opt, 'train.prune_schedule')

    def check(self, config: QuantConfig, total_iter: float) -> None:
        """Holds the schedule against the rest of the run.

        Raises:
            CompSRTError: nothing is pruned, the pattern cannot grow, or training ends before the schedule.
        """
        if not config.prunes:
            raise CompSRTError('there is nothing to schedule: give `network_g.quant.prune_ratio`, or leave it out.')
        if config.n_of_m is not None:
            raise CompSRTError(f'the pattern {config.prune_pattern} prunes all at once: leave the schedule out.')
        if self.end > total_iter:
            raise CompSRTError(
                f'`end` {self.end} is beyond `train.total_iter` {total_iter:g}: `prune_ratio` would not be reached.'
            )

    def due(self, iteration: int) -> bool:
        """True at the iterations that get new masks."""
        on_step = (iteration - self.begin) % self.frequency == 0
        return iteration == self.end or (self.begin <= iteration < self.end and on_step)

    def ratio(self, target: float, iteration: int) -> float:
        """The share that is pruned at an iteration."""
        return scheduled_ratio(target, self.begin, self.end, self.frequency, iteration)


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


def _require_number(config: object, name: str, low: float, high: float, open_below: bool = False) -> None:
    value = getattr(config, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (open_below and value == low):
        raise CompSRTError(
            f'`{name}` must be a number {"above" if open_below else "from"} {low} to {high}, got {value!r}.'
        )
    object.__setattr__(config, name, float(value))


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


def scheduled_ratio(target: float, begin: int, end: int, frequency: int, iteration: int) -> float:
    """The pruned share at an iteration of the cubic schedule of Zhu and Gupta (arXiv 1710.01878), from 0 to p.

    p_t = p (1 - (1 - (t - begin) / (end - begin))^3) at t = begin, begin + frequency, ...; constant in between, 0
    before `begin`, and p from `end` on.

    Args:
        target: p.
        begin, end: first and last iteration of the schedule, begin < end.
        frequency: iterations between two steps.
        iteration: where to look.
    """
    if iteration >= end:
        return target
    if iteration < begin:
        return 0.0
    step = (iteration - begin) // frequency * frequency
    return target * (1 - (1 - step / (end - begin)) ** 3)
