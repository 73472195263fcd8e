"""The section `quant`: what to quantize and how."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.config.field_text import Accepts
from compsrt_basicsr.config.methods.expand import expand_quant
from compsrt_basicsr.config.renames import renamed
from compsrt_basicsr.config.types import Fraction, NamePatterns, Seed
from compsrt_basicsr.errors import suggestion

MIN_BITS, MAX_BITS = 2, 8
MAX_PARTS = 8
MAX_CORRECTIONS, MAX_RANK = 64, 1024
TransformName = Literal['auto', 'hadamard', 'blocks', 'conference', 'padded', 'dct', 'random', 'none']
TRANSFORMS: tuple[str, ...] = get_args(TransformName)
PATTERNS = ('unstructured', 'channel')
Q = TypeVar('Q', bound='QuantConfig')


def n_of_m(pattern: str) -> tuple[int, int] | None:
    """Returns N and M of a pattern N:M with 1 <= N < M <= 64, and None for every other text."""
    match = re.fullmatch(r'([1-9]\d?):([1-9]\d?)', pattern)
    if match is None or not int(match[1]) < int(match[2]) <= 64:
        return None
    return int(match[1]), int(match[2])


def _pattern(value: str) -> str:
    if value not in PATTERNS and n_of_m(value) is None:
        raise ValueError(
            f'expected {", ".join(PATTERNS)} or N:M in quotes with 1 <= N < M <= 64, such as `2:4`, got '
            f'`{value}`.{suggestion(value, PATTERNS)}'
        )
    return value


def _parts(value: tuple[str, ...]) -> tuple[str, ...]:
    if not 2 <= len(value) <= MAX_PARTS or len({*value}) < len(value):
        raise ValueError(f'expected 2 to {MAX_PARTS} different names.')
    if wrong := next((name for name in value if not re.fullmatch(r'[a-z]\d?', name)), None):
        raise ValueError(f'a part is called by one letter, such as `q`, got `{wrong}`.')
    return value


Bits = Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)]
Corrections = Annotated[int, Field(ge=0, le=MAX_CORRECTIONS)]
Parts = Annotated[tuple[str, ...], AfterValidator(_parts)]
PrunePattern = Annotated[str, AfterValidator(_pattern), Accepts('unstructured, channel or N:M in quotes, such as 2:4')]


class LayerOptions(Options):
    """Options of `quant` that may differ for single layers; those left out are the network's."""

    weight_bits: Bits | None = Field(None, description='Bits of the weight.')
    act_bits: Bits | None = Field(None, description='Bits of the input, or of the operands of a product.')
    transform: TransformName | None = Field(None, description='Transform along the contracted dimension.')
    granularity: Literal['tensor', 'channel'] | None = Field(None, description='Grids of the weight.')
    act_granularity: Literal['tensor', 'token'] | None = Field(None, description='Grids of the activations.')
    equalize: bool | None = Field(None, description='Shift and scale of the input channels.')
    operands: Literal['both', 'weights'] | None = Field(None, description='`weights` leaves the input as it is.')
    corrections: Corrections | None = Field(None, description='Low-rank corrections of the weight of a linear.')
    quantize_outputs: bool | None = Field(None, description='Quantize the output of the convolution too.')


class QuantConfig(Options):
    """The section `quant` of a quantized network: what to quantize and how.

    Raises:
        CompSRTError: when built with values that do not fit; the message lists every error.
    """

    weight_bits: Bits = Field(4, description='Bits of the weights.')
    act_bits: Bits = Field(4, description='Bits of the activations.')
    code_range: Literal['strict', 'paper'] = Field(
        'strict',
        description='`strict` clamps codes to [0, 2^b − 1]; `paper` is the published formula, whose codes are not '
        'clamped ([what differs](strict_and_paper.md)).',
    )
    transform: TransformName = Field(
        'auto',
        description='Orthogonal transform of weights and activations along the contracted dimension: `auto` takes '
        '`hadamard` where the order has one, else `conference`, else `dct`; `blocks` takes Hadamard matrices of order '
        '12, 16 or 20 along the diagonal, which costs less, and `auto` where none of them divides the order; `padded` '
        'pads with zeros to a power of two, as published; `random` is orthogonal and drawn from `transform_seed`.',
    )
    transform_seed: Seed = Field(0, description='Seed of `transform: random`.')
    attention_transform: bool = Field(
        True, description='Transform q and k along the head dimension too; `false` leaves them as they are.'
    )
    softmax: Literal['normalized', 'deferred'] = Field(
        'normalized',
        description='Operand of the product with v: `normalized` is the softmax, as published; `deferred` is '
        'exp(logit − largest of the row), and the sum of the row divides the product instead.',
    )
    equalize: bool = Field(
        False,
        description='Shift and scale the channels of a layer before the transform, with closed-form optimal factors, '
        'which the weight and the bias take back.',
    )
    granularity: Literal['tensor', 'channel'] = Field(
        'tensor', description='One weight quantizer for each `tensor` or for each output `channel`.'
    )
    act_granularity: Literal['tensor', 'token'] = Field(
        'tensor',
        description='`token` gives each vector of activations that a linear, a convolution (each pixel) or a product '
        'multiplies a grid of its own, from its smallest and largest value; the learned bounds are fractions of this '
        'range. Grouped convolutions, and `tensor`, have one grid for all.',
    )
    operands: Literal['both', 'weights', 'activations'] = Field(
        'both', description='What is quantized; the rest stays in floating point.'
    )
    symmetric: Literal['none', 'weights', 'both'] = Field(
        'none',
        description='Whose zero point is fixed, so that 0 has a code and only the step is free: codes start at '
        '−2^(b−1), or at 0 for activations that are never negative.',
    )
    zero_point: Literal['float', 'integer'] = Field(
        'float',
        description='`integer` makes every zero point a whole number of steps, so that 0 has a code: inference engines '
        'compute in 8 bits with such grids only ([engines](onnx.md)).',
    )
    learn_bounds: bool = Field(True, description='Train the bounds l and u; `false` leaves them as calibrated.')
    learn_scale_offset: bool = Field(True, description='Train α; `false` leaves it at 0.')
    learn_zero_offset: bool = Field(True, description='Train β; `false` leaves it at 0.')
    step_gradient: Literal['none', 'lsq'] = Field(
        'none', description='`lsq` divides the gradient of each step by √(N Q_P), as LSQ does (arXiv 1902.08153).'
    )
    corrections: Corrections = Field(
        0,
        description='Low-rank corrections of the weight of each quantized linear, SPR²Q’s rectifiers: they train, and '
        'their weighted sum is added to the weight before it is transformed and quantized; files for deployment have '
        'merged weights. 0 for none.',
    )
    correction_rank: int = Field(8, ge=1, le=MAX_RANK, description='Rank of each correction.')
    quantize_convs: bool = Field(False, description='Quantize the convolutions of the body too.')
    quantize_head_tail: bool = Field(False, description='Quantize the first and the last layers too.')
    quantize_products: bool = Field(
        False,
        description='Quantize the operands of products of two activations in the attention of any network; a SwinIR '
        'has its own adapter, which always does.',
    )
    quantize_scan: bool = Field(
        False,
        description='Quantize the operands of selective scans too, and the prompts that are added to them '
        '([MambaIRv2-light](mambairv2.md)); the states stay in floating point.',
    )
    quantize_outputs: bool = Field(
        False,
        description='Quantize the outputs of convolutions to `act_bits` too, which ONNX Runtime needs to compute them '
        'in 8 bits ([engines](onnx.md)).',
    )
    fold_norms: bool = Field(
        False, description='Fold batch norms into the convolutions before them; for networks other than SwinIR.'
    )
    layers: dict[str, LayerOptions] = Field(
        {},
        description='Other options for single layers, by name pattern: `weight_bits`, `act_bits`, `transform`, '
        '`granularity`, `act_granularity`, `equalize`, `operands`, `corrections`, `quantize_outputs`. The first '
        'pattern that matches counts.',
    )
    split: dict[str, Parts] = Field(
        {},
        description='Linears whose outputs are quantized in equal parts, each with a grid of its own for the weight '
        'and for the input, by name pattern; the names of the parts are single letters, such as `[q, k, v]`. A SwinIR '
        'always splits its `qkv`.',
    )
    include: NamePatterns = Field(
        ('*',), description='Name patterns (fnmatch) of the linears and convolutions to quantize.'
    )
    exclude: NamePatterns = Field((), description='Name patterns of layers that stay in full precision.')
    prune_ratio: Fraction = Field(
        0.0, description='Share of the transformed weights that is set to 0 ([pruning](pruning.md)).'
    )
    prune_scope: Literal['layer', 'global'] = Field(
        'layer', description='`layer` prunes this share of each weight, `global` of all together by one threshold.'
    )
    prune_pattern: PrunePattern = Field(
        'unstructured',
        description='`unstructured` prunes single coefficients, `channel` output channels; N:M, such as `2:4`, keeps N '
        'of each M neighbours, and `prune_ratio` is left out.',
    )
    execution: Literal['fake', 'integer'] = Field(
        'fake',
        description='Inference by `fake` quantization or on `integer` codes ([integer execution](integer.md)); it may '
        "differ from the checkpoint's. Left out, `basicsr test` takes integer codes where they are faster.",
    )
    method: str | None = Field(
        None,
        description='Name of the method whose preset was used; a record without effect.',
        json_schema_extra={'hidden': True},
    )

    # These do not change what a checkpoint means; corrections show in its names and shapes.
    RUNTIME: ClassVar[tuple[str, ...]] = ('execution', 'method', 'corrections', 'correction_rank')

    @model_validator(mode='after')
    def _check_conflicts(self) -> QuantConfig:
        conflicts = [
            *self._grid_conflicts(),
            *self._token_conflicts(),
            *self._execution_conflicts(),
            *self._pruning_conflicts(),
        ]
        if conflicts:
            raise ValueError(' '.join(conflicts))
        if pattern := self.n_of_m:
            object.__setattr__(self, 'prune_ratio', 1 - pattern[0] / pattern[1])
        return self

    def _grid_conflicts(self) -> Iterator[str]:
        if self.symmetric != 'none' and self.code_range != 'strict':
            yield f'`symmetric: {self.symmetric}` needs `code_range: strict`: the published formula has no such grid.'
        if self.zero_point == 'integer' and self.code_range != 'strict':
            yield '`zero_point: integer` needs `code_range: strict`: the published formula has no such grid.'
        if self.corrections and self.operands == 'activations':
            yield '`corrections` need quantized weights: set `corrections: 0`, or `operands` to `both` or `weights`.'
        if self.softmax == 'deferred' and self.transform == 'padded' and self.attention_transform:
            yield (
                '`softmax: deferred` sums the quantized rows of the attention, which `transform: padded` transforms: '
                'add `attention_transform: false`, or take an exact transform such as `auto`.'
            )

    def _token_conflicts(self) -> Iterator[str]:
        if self.act_granularity != 'token':
            return
        if self.code_range != 'strict':
            yield '`act_granularity: token` needs `code_range: strict`: the published formula has no such grid.'
        if self.symmetric == 'both' or self.zero_point == 'integer':
            yield (
                '`act_granularity: token` puts the grid of each vector between its ends: it needs `zero_point: float`, '
                'and `symmetric: none` or `weights`.'
            )

    def _execution_conflicts(self) -> Iterator[str]:
        if self.execution != 'integer':
            return
        if self.code_range != 'strict' or self.transform == 'padded':
            yield (
                '`execution: integer` needs `code_range: strict` and an exact transform such as `auto`, got '
                f'`{self.code_range}` and `{self.transform}`: unclamped codes do not fit b bits, and a padded '
                'transform must be undone between codes and product.'
            )
        if self.quantize_outputs:
            yield '`execution: integer` needs `quantize_outputs: false`.'
        if self.operands != 'both':
            yield f'`execution: integer` needs `operands: both`, got `{self.operands}`.'

    def _pruning_conflicts(self) -> Iterator[str]:
        if self.operands == 'activations' and (self.prune_ratio or self.n_of_m):
            yield 'Pruning needs quantized weights: leave it out, or set `operands` to `both` or `weights`.'
        if self.n_of_m is None:
            return
        n, m = self.n_of_m
        if self.prune_ratio != 0 and not math.isclose(self.prune_ratio, 1 - n / m, abs_tol=1e-6):
            yield (
                f'`prune_pattern` {self.prune_pattern} prunes {1 - n / m:g} of the weights, `prune_ratio` says '
                f'{self.prune_ratio:g}: leave `prune_ratio` out.'
            )
        if self.prune_scope == 'global':
            yield f'`prune_pattern` {self.prune_pattern} has no `prune_scope: global`: leave it out.'

    def at(self: Q, name: str) -> Q:
        """Returns the options of the layer or product with a dotted name, see `layers`."""
        chosen = next((options for pattern, options in self.layers.items() if fnmatchcase(name, pattern)), None)
        return self if chosen is None else self.replace(**chosen.model_dump(exclude_none=True))

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Returns the parts in which the linear with a dotted name is quantized, see `split`; () for one."""
        return next((parts for pattern, parts in self.split.items() if fnmatchcase(name, pattern)), ())

    @property
    def prunes(self) -> bool:
        """True where weights are pruned."""
        return self.prune_ratio > 0

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of the pattern N:M, None for other patterns."""
        return n_of_m(self.prune_pattern)

    @classmethod
    def from_opt(cls: type[Q], opt: Mapping[str, Any] | Q | None, where: str = '') -> Q:
        """Builds a configuration from a mapping, whose `method` gives the options that are left out.

        Old names of options are read.

        Raises:
            CompSRTError: the mapping has errors; the message lists them all.
        """
        if isinstance(opt, Mapping) and all(isinstance(key, str) for key in opt):
            opt = expand_quant(renamed(opt, 'quant'))
        return super().from_opt(opt, where)

    @classmethod
    def from_record(cls: type[Q], record: Mapping[str, Any]) -> Q:
        """Builds a configuration from the record of a checkpoint or packed file.

        Options that its version did not know have their defaults, whatever the method of that name is today.

        Raises:
            CompSRTError: the record has errors.
        """
        return super().from_opt(renamed(record, 'quant') if isinstance(record, Mapping) else record)
