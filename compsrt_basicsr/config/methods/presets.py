"""The methods. This file alone says what each of them is; docs/methods.md has their equations."""

from __future__ import annotations

from compsrt_basicsr.config.methods.method import Method, Options
from compsrt_basicsr.errors import CompSRTError, shown, suggestion

_ADAM: Options = {'type': 'Adam', 'lr': 3.0e-2, 'weight_decay': 0, 'betas': [0.9, 0.99]}
_DISTILLATION: Options = {
    'trainable': 'quantizers',
    'optim_g': _ADAM,
    'scheduler': {'type': 'CosineAnnealingRestartLR', 'eta_min': 0},  # its period is `total_iter`
    'total_iter': 4000,
    'warmup_iter': -1,
    'grad_clip_value': 1.0,
    'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
    'feature_opt': {'type': 'FeatureDistillationLoss', 'loss_weight': 5.0},
}
_CONSTANT: Options = {'type': 'MultiStepLR', 'milestones': []}
# What is distilled alike if a file says `trainable: quantizers` and `total_iter`.
_CALIBRATION_ALONE: Options = {**{k: v for k, v in _DISTILLATION.items() if k != 'total_iter'}, 'trainable': 'none'}

# b-bit quantization of the tensors as they are, bounds learned: what the other methods start from.
_PLAIN: Options = {
    'code_range': 'strict',
    'transform': 'none',
    'granularity': 'tensor',
    'operands': 'both',
    'symmetric': 'none',
    'learn_bounds': True,
    'learn_scale_offset': False,
    'learn_zero_offset': False,
    'step_gradient': 'none',
}


def _method(
    name: str, title: str, source: str, quant: Options, calibration: Options, train: Options = _DISTILLATION
) -> Method:
    return Method(name, title, source, {**_PLAIN, **quant}, calibration, train)


_ALL = (
    _method(
        'minmax',
        'the range of each tensor, no training',
        'common practice; row MinMax of 2DQuant (arXiv 2406.06649)',
        {},
        {'method': 'minmax'},
        _CALIBRATION_ALONE,
    ),
    _method(
        'percentile',
        'the 0.1 and 99.9 percentiles of each tensor, no training',
        'common practice; row Percentile of 2DQuant (arXiv 2406.06649)',
        {},
        {'method': 'percentile', 'percentile': 99.9},
        _CALIBRATION_ALONE,
    ),
    _method(
        'dobi',
        'bounds of the least squared error, no training',
        'first stage of 2DQuant (arXiv 2406.06649), two-sided as released',
        {},
        {'method': 'dobi', 'search': 'two', 'candidates': 100},
        _CALIBRATION_ALONE,
    ),
    _method(
        '2dquant',
        'DOBI, then the bounds are distilled',
        'arXiv 2406.06649, two-sided search as released',
        {},
        {'method': 'dobi', 'search': 'two', 'candidates': 100},
    ),
    _method(
        'lsq',
        'learned step on a symmetric grid',
        'arXiv 1902.08153',
        {'symmetric': 'both', 'learn_bounds': False, 'learn_scale_offset': True, 'step_gradient': 'lsq'},
        {'method': 'lsq'},
    ),
    _method(
        'lsq+',
        'learned step and offset, weights on a symmetric grid',
        'arXiv 2004.09576',
        {
            'symmetric': 'weights',
            'learn_bounds': False,
            'learn_scale_offset': True,
            'learn_zero_offset': True,
            'step_gradient': 'lsq',
        },
        {'method': 'lsq+', 'search': 'two', 'candidates': 100},
    ),
    _method(
        'condiquant',
        'weights of lower condition number, then 2DQuant',
        'arXiv 2502.15478, reimplemented from its description',
        {},
        {'method': 'dobi', 'search': 'two', 'candidates': 100, 'precondition': 0.001, 'precondition_steps': 30},
    ),
    _method(
        'spr2q',
        '2DQuant, and low-rank corrections of the weights, merged before they are quantized',
        'SPR2Q (ICLR 2026), reimplemented from its description',
        {'corrections': 4},
        {'method': 'dobi', 'search': 'two', 'candidates': 100},
        {
            **_DISTILLATION,
            'optim_g': {**_ADAM, 'lr': 1.0e-2},
            'scheduler': _CONSTANT,
            'total_iter': 4500,
            'grad_clip_value': None,
            'pixel_opt': {'type': 'PublishedPixelLoss', 'loss_weight': 1.0},
            'feature_opt': None,
            'gate_phase': 0.1111,  # 500 of 4,500 iterations
        },
    ),
    _method(
        'compsrt',
        'Hadamard transform, a grid for each token, refitted weights, all of it learned, at most 2^b codes',
        'arXiv 2601.21069, with clamped codes',
        {
            'transform': 'blocks',
            'equalize': True,
            'act_granularity': 'token',
            'attention_transform': False,
            'softmax': 'deferred',
            'learn_scale_offset': True,
            'learn_zero_offset': True,
        },
        {'method': 'dobi', 'search': 'auto', 'candidates': 100, 'reconstruct': True},
        {
            **_DISTILLATION,
            'trainable': 'all',
            'weight_lr': 1.0e-3,
            'unquantized_lr': 1.0e-4,
            'optim_g': {**_ADAM, 'lr': 1.0e-2},
            'feature_opt': None,
        },
    ),
    _method(
        'compsrt_paper',
        'the published formula and recipe, codes not clamped',
        'arXiv 2601.21069',
        {'code_range': 'paper', 'transform': 'padded', 'learn_scale_offset': True, 'learn_zero_offset': True},
        {'method': 'dobi', 'search': 'auto', 'candidates': 100},
        {
            **_DISTILLATION,
            'optim_g': {**_ADAM, 'lr': 1.0e-2},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [10000], 'gamma': 0.5},  # a constant rate
            'pixel_opt': {'type': 'PublishedPixelLoss', 'loss_weight': 1.0},
            'feature_opt': {'type': 'PublishedFeatureLoss', 'loss_weight': 5.0},
        },
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def get_method(name: object) -> Method:
    """The method of a name.

    Raises:
        CompSRTError: there is none; the nearest is named.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise CompSRTError(
            f'`method` must be one of {", ".join(METHODS)}, got {shown(name)}.{suggestion(str(name), METHODS)}'
        )
    return METHODS[name]
