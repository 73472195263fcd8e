"""MambaIRv2Light: the light network of MambaIRv2 (arXiv 2411.15269), written from its description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.mambairv2_layers import (
    Pass,
    ResidualGroup,
    Sizes,
    relative_positions,
)
from compsrt_basicsr.archs.routing import NoisyNetwork
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY
from compsrt_basicsr.basicsr_compat.window_masks import shift_masks, window_kinds
from compsrt_basicsr.config.networks import MambaIRv2LightNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.padding import pad_to_multiple

# Options of `quant` with which CompSRT's authors quantize the network: 24 quantizers a layer.
PUBLISHED_PLACEMENT: dict[str, Any] = {
    'layers': {'*.selectiveScan.*': {'operands': 'weights'}},
    'split': {'*.wqkv': ['q', 'k', 'v']},
}
_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, RGB


class _PatchEmbed(nn.Module):
    """The norm of the first tokens, under the name that published checkpoints have for it."""

    def __init__(self, dim: int, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()


@ARCH_REGISTRY.register()
class MambaIRv2Light(NoisyNetwork):
    """MambaIRv2-light: window attention and a state-space scan over tokens that are sorted by learned prompts.

    The defaults are the published network. Names and shapes of the weights are those of the published checkpoints.

    Args:
        upscale: 1, 2, 3, 4 or 8.
        in_chans: channels of the image.
        img_size, patch_size, convffn_kernel_size, ape, use_checkpoint, resi_connection, upsampler: as in published
            option files; no other network of this kind is published.
        embed_dim: C of the tokens.
        d_state: states of the scan.
        depths: attentive layers of each group.
        num_heads: attention heads of each group; each divides embed_dim.
        window_size: side of the attention windows in pixels, even.
        inner_rank: inner rank of the prompts.
        num_tokens: number of prompts.
        mlp_ratio: channels of the MLPs and of the scan over embed_dim.
        qkv_bias: biases of q, k and v.
        patch_norm: LayerNorm of the first tokens.
        img_range: largest pixel value, 1 or 255.
        routing: 'sample' lets each token draw its prompt, as published; 'argmax' takes the most probable.
        routing_seed: seed of the draws in eval mode.

    Shape:
        (B, in_chans, H, W) in [0, 1] to (B, in_chans, upscale H, upscale W), for any H and W.

    Raises:
        CompSRTError: if an argument is out of range or does not fit the others. The message lists all such arguments.
    """

    relative_position_index_SA: Tensor
    mean: Tensor
    onnx_obstacle = 'its scan has a step for each pixel, which standard operators compute only in a slow loop'

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        img_size: int = 64,
        patch_size: int = 1,
        embed_dim: int = 48,
        d_state: int = 8,
        depths: Sequence[int] = (5, 5, 5, 5),
        num_heads: Sequence[int] = (4, 4, 4, 4),
        window_size: int = 16,
        inner_rank: int = 32,
        num_tokens: int = 64,
        convffn_kernel_size: int = 5,
        mlp_ratio: float = 1.0,
        qkv_bias: bool = True,
        ape: bool = False,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        img_range: float = 1.0,
        upsampler: str = 'pixelshuffledirect',
        resi_connection: str = '1conv',
        routing: str = 'sample',
        routing_seed: int = 0,
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in ('self', '__class__')}
        if errors := MambaIRv2LightNetwork.errors_of({'type': 'MambaIRv2Light', **arguments}):
            raise CompSRTError(' '.join(errors))
        super().__init__(routing_seed)
        self.upscale, self.window_size, self.img_range = upscale, window_size, img_range
        noisy, hidden = routing == 'sample', int(embed_dim * mlp_ratio)
        sizes = Sizes(embed_dim, hidden, window_size, d_state, num_tokens, inner_rank, qkv_bias, noisy)
        mean = torch.tensor(_MEAN if in_chans == 3 else [0.0] * in_chans)
        self.register_buffer('mean', mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer('relative_position_index_SA', relative_positions(window_size))
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.patch_embed = _PatchEmbed(embed_dim, patch_norm)
        self.layers = nn.ModuleList(ResidualGroup(sizes, depth, heads) for depth, heads in zip(depths, num_heads))
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.upsample = nn.Sequential(
            nn.Conv2d(embed_dim, in_chans * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
        )
        self.apply(_initialise)

    @property
    def routing(self) -> str:
        """'sample' or 'argmax'; can be changed."""
        return 'sample' if any(layer.noisy for layer in self._scans()) else 'argmax'

    @routing.setter
    def routing(self, value: str) -> None:
        for layer in self._scans():
            layer.noisy = value == 'sample'

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_chans, H, W) to (B, in_chans, upscale H, upscale W)."""
        height, width = x.shape[-2:]
        x = (pad_to_multiple(x, self.window_size) - self.mean) * self.img_range
        first = self.conv_first(x)
        size = first.shape[2], first.shape[3]
        shared = self._pass(len(x), size, x.device)
        tokens = self.patch_embed.norm(first.flatten(2).transpose(1, 2))
        for group in self.layers:
            tokens = group(tokens, shared)
        body = self.norm(tokens).transpose(1, 2).unflatten(2, size)
        x = self.upsample(self.conv_after_body(body) + first) / self.img_range + self.mean
        return x[..., : height * self.upscale, : width * self.upscale]

    def _pass(self, batch: int, size: tuple[int, int], device: torch.device) -> Pass:
        side = self.window_size
        kinds = window_kinds(size[0] // side, size[1] // side, device).repeat(batch)
        masks = shift_masks(side, side // 2, device)
        return Pass(size, self.relative_position_index_SA, masks, kinds, self.generator(device))

    def _scans(self) -> list[Any]:
        return [layer.assm for group in self.layers for layer in group.residual_group.layers]  # type: ignore[union-attr]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
