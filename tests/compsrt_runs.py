"""A tiny distillation run: its teacher and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from basicsr.archs.swinir_arch import SwinIR
from conftest import LmdbPair, dataset_options, training_dataset_options

# 12 and 24 have Hadamard matrices; the head size 6 has a conference matrix.
TINY = {
    'upscale': 2,
    'in_chans': 3,
    'img_size': 16,
    'window_size': 8,
    'img_range': 1.0,
    'depths': [2],
    'embed_dim': 12,
    'num_heads': [2],
    'mlp_ratio': 2,
    'upsampler': 'pixelshuffledirect',
    'resi_connection': '1conv',
}


def make_teacher(path: Path, **changes: Any) -> Path:
    """Saves a full-precision network with weights as large as trained ones, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    network = SwinIR(**{**TINY, **changes})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator) + (parameter == 1))
    torch.save({'params': network.state_dict()}, path)
    return path


def distillation_options(pair: LmdbPair, teacher: Path) -> dict[str, Any]:
    """Returns the options of a training run of CompSRTModel; two iterations a second or faster."""
    return {
        'name': 'tiny',
        'model_type': 'CompSRTModel',
        'scale': 2,
        'num_gpu': 'auto',
        'manual_seed': 7,
        'datasets': {'train': training_dataset_options(pair), 'val': dataset_options(pair, 'TinyVal')},
        'network_g': {'type': 'CompSRTSwinIR', **TINY, 'quant': {'weight_bits': 4, 'act_bits': 4}},
        'network_t': {'type': 'SwinIR', **TINY},
        'path': {'pretrain_network_t': str(teacher), 'resume_state': None},
        'calibration': {'num_patches': 4, 'candidates': 20},
        'train': {
            'optim_g': {'type': 'Adam', 'lr': 1e-2, 'weight_decay': 0, 'betas': [0.9, 0.99]},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [6], 'gamma': 0.5},
            'total_iter': 4,
            'warmup_iter': -1,
            'grad_clip_value': 1.0,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
            'feature_opt': {'type': 'FeatureDistillationLoss', 'loss_weight': 5.0},
        },
        'val': {
            'val_freq': 2,
            'save_img': False,
            'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}},
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
    }


def options_for_testing(training: dict[str, Any], weights: Path) -> dict[str, Any]:
    """Returns the options that test what a training run has saved."""
    kept = ('name', 'model_type', 'method', 'scale', 'num_gpu', 'network_g')
    return {
        **{key: training[key] for key in kept if key in training},
        'datasets': {'test_1': training['datasets']['val']},
        'path': {'pretrain_network_g': str(weights)},
        'val': {'metrics': training['val']['metrics']},
    }


def pretraining(options):
    """Makes a pretraining of the options of a distillation, in place, and returns it."""
    options['model_type'] = 'CompSRTPretrainModel'
    options['network_g'] = options.pop('network_t')
    options['path'] = {'resume_state': None}
    for name in ('feature_opt', 'grad_clip_value'):
        del options['train'][name]
    del options['calibration']
    return options
