"""CompSRTSwinIR: BasicSR's SwinIR, quantized in place, and presets of its light variant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from compsrt_basicsr.archs import swinir_integer, swinir_residual_streams  # noqa: F401  (register themselves)
from compsrt_basicsr.archs.foreign_states import is_foreign
from compsrt_basicsr.archs.state_dicts import adapt_state_dict, forget_recomputable_buffers
from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY, SwinIR, WindowAttention
from compsrt_basicsr.config.networks import SwinIRNetwork
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.names import replace_module, selected
from compsrt_basicsr.quant.pruning import prune_
from compsrt_basicsr.quant.record import QuantRecord

SWINIR_LIGHT = {
    'in_chans': 3,
    'img_size': 64,
    'window_size': 8,
    'img_range': 1.0,
    'depths': (6, 6, 6, 6),
    'embed_dim': 60,
    'num_heads': (6, 6, 6, 6),
    'mlp_ratio': 2,
    'upsampler': 'pixelshuffledirect',
    'resi_connection': '1conv',
}


@ARCH_REGISTRY.register()
class CompSRTSwinIR(SwinIR):
    """SwinIR with quantized weights and activations in its Swin blocks (CompSRT, arXiv 2601.21069).

    Quantizes, in each block, weight and input of the linear layers q, k, v, proj, fc1 and fc2, and the operands of both
    attention products: 384 quantizers in SwinIR-light. The convolutions, the first and last layers (unless `quant` says
    otherwise), LayerNorms, biases, position bias, softmax and GELU stay in full precision.

    `load_state_dict` accepts full-precision SwinIR checkpoints of any img_size, our own checkpoints and, in paper
    range, those of the authors' code and of 2DQuant.

    Args:
        upscale: 1, 2, 3, 4 or 8.
        in_chans: channels of the image.
        img_size: side of the training patches in LR pixels; larger than window_size.
        window_size: side of the attention windows in pixels.
        img_range: 1 or 255.
        depths: number of Swin blocks in each residual group.
        embed_dim: channels of the body.
        num_heads: attention heads in each group; each divides embed_dim.
        mlp_ratio: hidden channels of the MLP over embed_dim.
        upsampler: 'pixelshuffledirect', 'pixelshuffle', 'nearest+conv' or '' (restoration without upscaling).
        resi_connection: '1conv' or '3conv'.
        qkv_bias, qk_scale, drop_rate, attn_drop_rate, ape, patch_norm, patch_size: as in SwinIR.
        use_checkpoint: must be false, because it does not work in BasicSR.
        drop_path_rate: stochastic depth. The default is 0, not SwinIR's 0.1, because distillation compares with a
            teacher.
        quant: options of `QuantConfig`.

    Shape:
        (B, in_chans, H, W) in [0, 1] to (B, in_chans, upscale H, upscale W); H and W are multiples of window_size.

    Raises:
        CompSRTError: if an argument is out of range or does not fit the others. The message lists all such arguments.
    """

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        img_size: int = 64,
        window_size: int = 8,
        img_range: float = 1.0,
        depths: Sequence[int] = (6, 6, 6, 6),
        embed_dim: int = 60,
        num_heads: Sequence[int] = (6, 6, 6, 6),
        mlp_ratio: float = 2.0,
        upsampler: str = 'pixelshuffledirect',
        resi_connection: str = '1conv',
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        ape: bool = False,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        patch_size: int = 1,
        quant: Mapping[str, Any] | QuantConfig | None = None,
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in ('self', '__class__', 'quant')}
        errors = SwinIRNetwork.errors_of({'type': 'CompSRTSwinIR', **arguments})
        if errors:
            raise CompSRTError(' '.join(errors))
        super().__init__(**arguments)
        self.quant_config = QuantConfig.from_opt(quant)
        self.window_size = window_size
        quantize_swinir_(self, self.quant_config, arguments, type(self).__name__)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads a full-precision checkpoint, our own, or a foreign quantized one; see `adapt_state_dict`.

        Raises:
            CompSRTError: if the checkpoint does not fit the network or its quantization.
        """
        state = adapt_state_dict(state_dict, self, self.quant_config, strict)
        result = super().load_state_dict(state, strict, assign)
        if is_foreign(state_dict):
            prune_(self)  # foreign checkpoints have no masks and need no calibration
        return result


def quantize_swinir_(
    network: SwinIR, config: QuantConfig, arguments: Mapping[str, Any], arch: str = 'CompSRTSwinIR'
) -> None:
    """Quantizes a SwinIR in place and records how, so that its files can be loaded without an option file.

    Args:
        network: a SwinIR in full precision.
        config: what to quantize and how.
        arguments: those that built it.
        arch: the registered name of the architecture.

    Raises:
        CompSRTError: see `quantize_swin_blocks_`.
    """
    quantize_swin_blocks_(network, config)
    forget_recomputable_buffers(network)
    network.quant_record = QuantRecord(config, arch, arguments)
    set_execution_(network, config.execution)


def quantize_swin_blocks_(network: SwinIR, config: QuantConfig) -> None:
    """Quantizes a SwinIR in place: the attention by its adapter, the other layers by `quantize_`.

    Raises:
        CompSRTError: if no layer is selected, or `exclude` matches a single linear layer of a selected attention.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, WindowAttention) and selected(name, config):
            for linear in (f'{name}.qkv', f'{name}.proj'):
                if not selected(linear, config.replace(include=('*',))):
                    raise CompSRTError(
                        f'`quant.exclude` cannot leave out `{linear}` alone: an attention is quantized as a whole, '
                        'so exclude `*.attn` instead.'
                    )
            replace_module(network, name, QuantWindowAttention(module, config, name))
    exclude = config.exclude if config.quantize_head_tail else (*config.exclude, *_ENDS)
    body = config.replace(quantize_head_tail=True, exclude=exclude)
    quantize_(network, body)


_ENDS = ('conv_first', 'conv_before_upsample*', 'upsample*', 'conv_up*', 'conv_hr', 'conv_last')


def _preset(scale: int, bits: int) -> Callable[..., nn.Module]:
    def build(quant: Mapping[str, Any] | None = None, **overrides: Any) -> nn.Module:
        chosen = {'weight_bits': bits, 'act_bits': bits, **(quant or {})}
        return CompSRTSwinIR(**{**SWINIR_LIGHT, 'upscale': scale, **overrides}, quant=chosen)

    build.__signature__ = inspect.signature(CompSRTSwinIR)  # type: ignore[attr-defined]
    build.__name__ = f'compsrt_swinir_light_x{scale}_w{bits}a{bits}'
    build.__doc__ = f'Builds SwinIR-light x{scale} with {bits}-bit weights and activations; arguments override.'
    return build


for _scale in (2, 3, 4):
    for _bits in (4, 3, 2):
        ARCH_REGISTRY.register(_preset(_scale, _bits))
