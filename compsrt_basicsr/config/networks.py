"""The sections `network_g`, `network_d` and `network_t`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.types import PositiveCount, PositiveNumber, Seed
from compsrt_basicsr.utils.text import counted

_SWINIR = r'CompSRTSwinIR|compsrt_swinir_light_x\d_w\da\d'
_NET, _MAMBA = 'CompSRTNet', 'MambaIRv2Light'
_Share = Annotated[float, Field(ge=0, le=1)]


class SwinIRNetwork(Options):
    """A SwinIR that is quantized: the arguments of BasicSR's SwinIR, and the section `quant`."""

    type: str = Field(
        description='`CompSRTSwinIR`, or a SwinIR-light such as `compsrt_swinir_light_x2_w4a4` (×2, ×3, ×4; 4, 3, 2 '
        'bits), whose size and bits need no further option.',
        json_schema_extra={'pattern': f'^({_SWINIR})$'},
    )
    upscale: Literal[1, 2, 3, 4, 8] = Field(2, description='Upscaling factor.')
    in_chans: PositiveCount = Field(3, description='Channels of the image.')
    img_size: PositiveCount = Field(
        64, description='Side of the training patches in LR pixels, larger than `window_size`.'
    )
    window_size: PositiveCount = Field(8, description='Side of the attention windows in pixels.')
    img_range: PositiveNumber = Field(1.0, description='Largest pixel value, 1 or 255.')
    depths: tuple[PositiveCount, ...] = Field(
        (6, 6, 6, 6), min_length=1, description='Swin blocks of each residual group.'
    )
    embed_dim: PositiveCount = Field(60, description='Channels of the body.')
    num_heads: tuple[PositiveCount, ...] = Field(
        (6, 6, 6, 6), min_length=1, description='Attention heads of each group; each divides `embed_dim`.'
    )
    mlp_ratio: PositiveNumber = Field(2.0, description='Hidden channels of the MLP over `embed_dim`.')
    upsampler: Literal['pixelshuffledirect', 'pixelshuffle', 'nearest+conv', ''] = Field(
        'pixelshuffledirect', description='Tail of the network; an empty text restores without upscaling.'
    )
    resi_connection: Literal['1conv', '3conv'] = Field('1conv', description='Convolutions at the end of each group.')
    qkv_bias: bool = Field(True, description='Biases of q, k and v.')
    qk_scale: PositiveNumber | None = Field(None, description='Factor of q; `~` is (head dimension)^(−1/2).')
    drop_rate: _Share = Field(0.0, description='Dropout rate.')
    attn_drop_rate: _Share = Field(0.0, description='Dropout rate of the attention.')
    drop_path_rate: _Share = Field(
        0.0, description="Stochastic depth; 0, unlike SwinIR's 0.1, since distillation compares with a teacher."
    )
    ape: bool = Field(False, description='Absolute position embedding.')
    patch_norm: bool = Field(True, description='LayerNorm after the patch embedding.')
    use_checkpoint: Literal[False] = Field(
        False, description='Must be false: the SwinIR of BasicSR 1.4.2 cannot recompute its blocks.'
    )
    patch_size: PositiveCount = Field(1, description='Side of the patches of the embedding.')
    quant: QuantConfig | None = Field(None, description='What to quantize and how.')

    @model_validator(mode='after')
    def _check_sizes(self) -> SwinIRNetwork:
        conflicts = list(self._conflicts())
        if conflicts:
            raise ValueError(' '.join(conflicts))
        return self

    def _conflicts(self) -> Iterator[str]:
        yield from _head_conflicts(self.depths, self.num_heads, self.embed_dim)
        if self.upsampler == 'nearest+conv' and self.upscale not in (2, 4):
            yield f'`upscale` {self.upscale} does not fit `upsampler: nearest+conv`, which takes 2 or 4.'
        if self.img_size <= self.window_size:
            yield f'`img_size` {self.img_size} must be larger than `window_size` {self.window_size}.'


class MambaIRv2LightNetwork(Options):
    """A MambaIRv2-light in full precision; the defaults are the published network."""

    type: Literal['MambaIRv2Light'] = Field(description='`MambaIRv2Light`.')
    upscale: Literal[1, 2, 3, 4, 8] = Field(2, description='Upscaling factor.')
    in_chans: PositiveCount = Field(3, description='Channels of the image.')
    img_size: PositiveCount = Field(64, description='As in published option files; without effect.')
    patch_size: Literal[1] = Field(1, description='Must be 1.')
    embed_dim: PositiveCount = Field(48, description='Channels of the body.')
    d_state: PositiveCount = Field(8, description='States of the scan for each channel.')
    depths: tuple[PositiveCount, ...] = Field((5, 5, 5, 5), min_length=1, description='Layers of each group.')
    num_heads: tuple[PositiveCount, ...] = Field(
        (4, 4, 4, 4), min_length=1, description='Attention heads of each group; each divides `embed_dim`.'
    )
    window_size: PositiveCount = Field(16, description='Side of the attention windows in pixels, even.')
    inner_rank: PositiveCount = Field(32, description='Inner rank of the prompts.')
    num_tokens: PositiveCount = Field(64, description='Number of prompts, by which tokens are sorted.')
    convffn_kernel_size: Literal[5] = Field(5, description='Must be 5.')
    mlp_ratio: PositiveNumber = Field(1.0, description='Channels of the MLPs and of the scan over `embed_dim`.')
    qkv_bias: bool = Field(True, description='Biases of q, k and v.')
    ape: Literal[False] = Field(False, description='Must be false.')
    patch_norm: bool = Field(True, description='LayerNorm of the first tokens.')
    use_checkpoint: Literal[False] = Field(False, description='Must be false.')
    img_range: PositiveNumber = Field(1.0, description='Largest pixel value, 1 or 255.')
    upsampler: Literal['pixelshuffledirect'] = Field('pixelshuffledirect', description='Tail of the network.')
    resi_connection: Literal['1conv'] = Field('1conv', description='Convolution at the end of each group.')
    routing: Literal['sample', 'argmax'] = Field(
        'sample', description='`sample` lets each token draw its prompt, as published; `argmax` takes the likeliest.'
    )
    routing_seed: Seed = Field(0, description='Seed of the draws in a test.')

    @model_validator(mode='after')
    def _check_sizes(self) -> MambaIRv2LightNetwork:
        conflicts = [*_head_conflicts(self.depths, self.num_heads, self.embed_dim)]
        hidden = int(self.embed_dim * self.mlp_ratio)
        if hidden < 2 or hidden % 2:
            conflicts.append(
                f'`embed_dim` {self.embed_dim} times `mlp_ratio` {self.mlp_ratio:g} must be even: one half of the '
                'channels gates the other.'
            )
        if self.embed_dim < 3:
            conflicts.append(f'`embed_dim` {self.embed_dim} must be at least 3: a third of the channels routes.')
        if self.window_size % 2:
            conflicts.append(f'`window_size` {self.window_size} must be even: windows are shifted by half.')
        if conflicts:
            raise ValueError(' '.join(conflicts))
        return self


def _head_conflicts(depths: tuple[int, ...], heads: tuple[int, ...], embed_dim: int) -> Iterator[str]:
    if len(depths) != len(heads):
        yield f'`depths` has {counted(len(depths), "group")}, `num_heads` {len(heads)}: they must agree.'
    if any(embed_dim % number for number in heads):
        yield f'`embed_dim` {embed_dim} must be divisible by each of `num_heads` {list(heads)}.'


class OtherNetwork(Options):
    """Any other architecture of BasicSR's registry, whose arguments are checked against its signature."""

    model_config = ConfigDict(extra='allow')

    type: str = Field(
        description='Name of the registered architecture, such as `SwinIR`.',
        json_schema_extra={'not': {'pattern': f'^({_SWINIR}|{_NET}|{_MAMBA})$'}},
    )


def _type_of(section: Any) -> str:
    name = section.get('type') if isinstance(section, Mapping) else getattr(section, 'type', None)
    return name if isinstance(name, str) else ''


def _base_kind(section: Any) -> str:
    return 'MambaIRv2LightNetwork' if _type_of(section) == _MAMBA else 'OtherNetwork'


_Base = Annotated[
    Annotated[MambaIRv2LightNetwork, Tag('MambaIRv2LightNetwork')] | Annotated[OtherNetwork, Tag('OtherNetwork')],
    Discriminator(_base_kind),
]


class CompSRTNet(Options):
    """Any registered architecture, quantized in place."""

    type: Literal['CompSRTNet'] = Field(description='`CompSRTNet`.')
    base: _Base = Field(description='`type` and arguments of the architecture.')
    quant: QuantConfig | None = Field(
        None, description='What to quantize and how; a network of convolutions needs `quantize_convs: true`.'
    )
    structure: dict[str, Any] | None = Field(
        None,
        description='What a record knows of the network, so that it need not be run when it is built.',
        json_schema_extra={'hidden': True},
    )


def _kind(section: Any) -> str:
    name = _type_of(section)
    own = {_NET: 'CompSRTNet', _MAMBA: 'MambaIRv2LightNetwork'}
    return own.get(name) or ('SwinIRNetwork' if re.fullmatch(_SWINIR, name) else 'OtherNetwork')


Network = Annotated[
    Annotated[SwinIRNetwork, Tag('SwinIRNetwork')]
    | Annotated[CompSRTNet, Tag('CompSRTNet')]
    | Annotated[MambaIRv2LightNetwork, Tag('MambaIRv2LightNetwork')]
    | Annotated[OtherNetwork, Tag('OtherNetwork')],
    Discriminator(_kind),
]


def has_own_weights(section: Mapping[str, Any]) -> bool:
    """Returns whether a section `network_t` or `network_g` names the weights of its network itself."""
    base = section.get('base')
    return section.get('checkpoint') is not None or (isinstance(base, Mapping) and has_own_weights(base))
