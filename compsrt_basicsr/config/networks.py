"""The sections `network_g`, `network_d` and `network_t`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.types import PositiveCount, PositiveNumber
from compsrt_basicsr.utils.text import counted

_SWINIR = r'CompSRTSwinIR|compsrt_swinir_light_x\d_w\da\d'
_NET = 'CompSRTNet'
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
        if len(self.depths) != len(self.num_heads):
            groups = counted(len(self.depths), 'group')
            yield f'`depths` has {groups}, `num_heads` {len(self.num_heads)}: they must agree.'
        if any(self.embed_dim % heads for heads in self.num_heads):
            yield f'`embed_dim` {self.embed_dim} must be divisible by each of `num_heads` {list(self.num_heads)}.'
        if self.upsampler == 'nearest+conv' and self.upscale not in (2, 4):
            yield f'`upscale` {self.upscale} does not fit `upsampler: nearest+conv`, which takes 2 or 4.'
        if self.img_size <= self.window_size:
            yield f'`img_size` {self.img_size} must be larger than `window_size` {self.window_size}.'


class OtherNetwork(Options):
    """Any other architecture of BasicSR's registry, whose arguments are checked against its signature."""

    model_config = ConfigDict(extra='allow')

    type: str = Field(
        description='Name of the registered architecture, such as `SwinIR`.',
        json_schema_extra={'not': {'pattern': f'^({_SWINIR}|{_NET})$'}},
    )


class CompSRTNet(Options):
    """Any registered architecture, quantized in place."""

    type: Literal['CompSRTNet'] = Field(description='`CompSRTNet`.')
    base: OtherNetwork = Field(description='`type` and arguments of the architecture.')
    quant: QuantConfig | None = Field(
        None, description='What to quantize and how; a network of convolutions needs `quantize_convs: true`.'
    )
    structure: dict[str, Any] | None = Field(
        None,
        description='What a record knows of the network, so that it need not be run when it is built.',
        json_schema_extra={'hidden': True},
    )


def _kind(section: Any) -> str:
    name = section.get('type') if isinstance(section, Mapping) else getattr(section, 'type', None)
    if not isinstance(name, str):
        return 'OtherNetwork'
    return 'CompSRTNet' if name == _NET else 'SwinIRNetwork' if re.fullmatch(_SWINIR, name) else 'OtherNetwork'


Network = Annotated[
    Annotated[SwinIRNetwork, Tag('SwinIRNetwork')]
    | Annotated[CompSRTNet, Tag('CompSRTNet')]
    | Annotated[OtherNetwork, Tag('OtherNetwork')],
    Discriminator(_kind),
]


def has_own_weights(section: Mapping[str, Any]) -> bool:
    """Returns whether a section `network_t` or `network_g` names the weights of its network itself."""
    base = section.get('base')
    return section.get('checkpoint') is not None or (isinstance(base, Mapping) and has_own_weights(base))
