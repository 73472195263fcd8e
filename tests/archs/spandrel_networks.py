"""Small networks of every architecture that spandrel registers, by its name, with constructor arguments.

Keys are `ARCHITECTURE` or, where an architecture has several classes, `ARCHITECTURE.CLASS`; the arguments tell which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork, build_spandrel
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.quant.calibrate import calibrate

_SWIN: dict[str, Any] = {
    'img_size': 64, 'embed_dim': 12, 'depths': [2, 2], 'num_heads': [2, 2], 'window_size': 8, 'mlp_ratio': 2.0,
    'upscale': 2,
}  # fmt: skip

NETWORKS: dict[str, dict[str, Any]] = {
    'ESRGAN': {'num_filters': 8, 'num_blocks': 1, 'scale': 2},
    'Compact': {'num_feat': 8, 'num_conv': 2, 'upscale': 2},
    'SPAN': {'num_in_ch': 3, 'num_out_ch': 3, 'feature_channels': 8, 'upscale': 2},
    'DAT': {
        'img_size': 64, 'embed_dim': 16, 'split_size': [8, 8], 'depth': [2, 2], 'num_heads': [2, 2],
        'expansion_factor': 2.0, 'upscale': 2,
    },
    'SwinIR': {**_SWIN, 'upsampler': 'pixelshuffledirect'},
    'OmniSR': {'num_feat': 16, 'block_num': 1, 'window_size': 8, 'res_num': 1, 'up_scale': 2},
    'ATD': {**_SWIN, 'category_size': 256, 'num_tokens': 8, 'reducted_dim': 4, 'upsampler': 'pixelshuffledirect'},
    'AuraSR': {
        'dim': 8, 'image_size': None, 'input_image_size': None, 'init_dim': 8, 'up_dim_mults': [1, 1, 1, 2, 2],
        'style_network': {'dim_in': 16, 'dim_out': 64, 'depth': 2}, 'down_dim_mults': [1, 2, 2],
        'self_attn_dim_head': 4, 'attn_depths': [2, 2, 2, 1, 1], 'mid_attn_depth': 1, 'skip_connect_scale': 0.4,
    },
    'CRAFT': {'embed_dim': 12, 'depths': [1, 1], 'num_heads': [2, 2], 'upscale': 2},
    'DCTLSA': {'nf': 10, 'num_modules': 6, 'upscale': 2, 'num_head': 5},
    'DITN': {'dim': 12, 'ITL_blocks': 1, 'SAL_blocks': 1, 'UFONE_blocks': 1, 'upscale': 2},
    'DRCT': {**_SWIN, 'depths': [6], 'num_heads': [2], 'gc': 8, 'upsampler': 'pixelshuffle'},
    'DRUNet': {'in_nc': 4, 'out_nc': 3, 'nc': [8, 8, 12, 12], 'nb': 2},
    'DnCNN': {'in_nc': 3, 'out_nc': 3, 'nc': 8, 'nb': 4, 'act_mode': 'BR'},
    'FBCNN': {'in_nc': 3, 'out_nc': 3, 'nc': [8, 8, 8, 512], 'nb': 2},
    'FDAT': {
        'scale': 2, 'embed_dim': 16, 'num_groups': 1, 'depth_per_group': 2, 'num_heads': 2, 'window_size': 8,
        'mid_dim': 8,
    },
    'FFTformer': {'dim': 8, 'num_blocks': [1, 1, 1], 'num_refinement_blocks': 1},
    'GRL': {
        'embed_dim': 16, 'upscale': 2, 'depths': [2], 'num_heads_window': [2], 'num_heads_stripe': [2],
        'window_size': 32, 'stripe_size': [64, 64], 'stripe_shift': True, 'anchor_window_down_factor': 4,
        'mlp_ratio': 2.0, 'upsampler': 'pixelshuffledirect',
    },
    'HAT': {
        **_SWIN, 'compress_ratio': 3, 'squeeze_factor': 4, 'upsampler': 'pixelshuffle', 'num_feat': 8,
        'overlap_ratio': 0.5,
    },
    'HVICIDNet': {'channels': [8, 8, 16, 32], 'heads': [1, 2, 4, 8]},
    'IPT': {'patch_dim': 3, 'n_feats': 4, 'scale': [2], 'num_heads': 12, 'num_layers': 1, 'num_queries': 1},
    'KBNet.KBNet_s': {
        'width': 8, 'middle_blk_num': 1, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1], 'lightweight': False,
    },
    'KBNet.KBNet_l': {'dim': 24, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1, 'heads': [1, 2, 4, 8]},
    'MMRealSR': {
        'num_in_ch': 3, 'num_out_ch': 3, 'scale': 4, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4,
        'num_feats': [8, 8, 8, 8], 'num_blocks': [1, 1, 1, 1],
    },
    'MixDehazeNet': {'embed_dims': [8, 8, 8, 8, 8], 'depths': [1, 1, 1, 1, 1]},
    'MoESR': {'scale': 2, 'dim': 8, 'n_blocks': 1, 'n_block': 1, 'expansion_factor': 2.0},
    'MoSR': {'upscale': 2, 'n_block': 2, 'dim': 16},
    'NAFNet': {'width': 8, 'middle_blk_num': 1, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
    'PLKSR.PLKSR': {'dim': 16, 'n_blocks': 2, 'upscaling_factor': 2, 'kernel_size': 7},
    'PLKSR.RealPLKSR': {'layer_norm': False, 'dim': 16, 'n_blocks': 2, 'upscaling_factor': 2, 'kernel_size': 7},
    'RCAN': {'scale': 2, 'n_resgroups': 1, 'n_resblocks': 2, 'n_feats': 16},
    'RGT': {
        'img_size': 64, 'embed_dim': 16, 'depth': [2, 2], 'num_heads': [2, 2], 'mlp_ratio': 2.0, 'upscale': 2,
    },
    'RealCUGAN.UpCunet2x': {},
    'RealCUGAN.UpCunet3x': {'scale': 3},
    'RealCUGAN.UpCunet4x': {'scale': 4},
    'RealCUGAN.UpCunet2x_fast': {'fast': True},
    'RetinexFormer': {'n_feat': 8, 'stage': 1, 'num_blocks': [1, 1, 1]},
    'SAFMN': {'dim': 16, 'n_blocks': 2, 'upscaling_factor': 2},
    'SAFMNBCIE': {'dim': 16, 'n_blocks': 1, 'num_layers': 1},
    'SCUNet': {'config': [1, 1, 1, 1, 1, 1, 1], 'dim': 64},
    'SeemoRe': {
        'scale': 2, 'num_experts': 3, 'num_layers': 1, 'embedding_dim': 12, 'global_kernel_size': 5, 'recursive': 2,
    },
    'SwiftSRGAN': {'num_channels': 8, 'num_blocks': 1, 'upscale_factor': 2},
    'Swin2SR': {**_SWIN, 'upsampler': 'pixelshuffledirect'},
    'Uformer': {
        'embed_dim': 8, 'depths': [1, 1, 1, 1, 1, 1, 1, 1, 1], 'num_heads': [1, 1, 1, 1, 1, 1, 1, 1, 1], 'win_size': 8,
    },
    'AdaCode': {'codebook_params': [[64, 16, 16]], 'gt_resolution': 256, 'LQ_stage': True, 'scale_factor': 2},
    'FeMaSR': {'codebook_params': [[64, 16, 16]], 'gt_resolution': 256, 'LQ_stage': True, 'scale_factor': 2},
    'M3SNet': {'width': 8, 'middle_blk_num': 1, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
    'MIRNet2': {'n_feat': 16, 'n_MRB': 1},
    'MPRNet': {'n_feat': 8, 'scale_unetfeats': 4, 'scale_orsnetfeats': 4, 'num_cab': 1},
    'Restormer': {
        'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1, 'heads': [1, 2, 4, 8],
    },
    'SRFormer': {**_SWIN, 'upsampler': 'pixelshuffledirect'},
}  # fmt: skip

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    'GFPGAN': ({}, 'faces'),
    'CodeFormer': ({}, 'faces'),
    'RestoreFormer': ({}, 'faces'),
    'LaMa': ({'in_nc': 4}, 'mask'),
    'MAT': ({}, 'mask'),
    'DDColor': (
        {'encoder_name': 'convnext-t', 'nf': 16, 'num_queries': 4, 'dec_layers': 1, 'num_output_channels': 2},
        'colours',
    ),
}  # arguments, and a word of the sentence
LARGE = ('FBCNN', 'AdaCode', 'FeMaSR')  # their widths are fixed: some ten million parameters

QUANT: dict[str, Any] = {
    'weight_bits': 8, 'act_bits': 8, 'quantize_convs': True, 'quantize_products': True, 'fold_norms': True,
    'quantize_head_tail': True,
}  # fmt: skip


def built(key: str) -> SpandrelNetwork:
    """Returns a network in full precision with random weights, in eval mode."""
    torch.manual_seed(0)
    return build_spandrel(key.partition('.')[0], NETWORKS[key]).eval()


def images(network: SpandrelNetwork) -> Tensor:
    """Returns two small images, of a size that the network pads."""
    torch.manual_seed(1)
    side = max(16, network.minimum)
    return torch.rand(2, network.channels, side, side + 3)


def compressed(network: SpandrelNetwork, folder: Path) -> nn.Module:
    """Quantizes a network to w8a8 from its weight file and calibrates it."""
    torch.save({'params': network.model.state_dict()}, folder / 'weights.pth')
    student = CompSRTNet({'type': 'spandrel', 'checkpoint': str(folder / 'weights.pth')}, QUANT).eval()
    calibrate(student, images(network), CalibrationConfig(method='minmax'), progress=False)
    return student
