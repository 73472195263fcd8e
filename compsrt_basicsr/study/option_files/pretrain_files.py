"""Option files that pretrain a full-precision SwinIR-light, a teacher."""

from __future__ import annotations

from typing import Any

from compsrt_basicsr.study.option_files.blocks import SCHEMA, SWINIR, dataset_blocks, fill

_PRETRAIN = f"""\
{SCHEMA}\
# $purpose
# Command: basicsr train -opt options/$name.yml
# The teacher afterwards: --force_yml path:pretrain_network_t=experiments/$name/models/net_g_latest.pth
#   path:param_key_t=params_ema

name: $name
model_type: CompSRTPretrainModel
scale: $scale
num_gpu: auto  # 0 on a machine without CUDA
manual_seed: 0

datasets:
  # Made by: compsrt data get $data
  train:
    name: $data
    type: PairedImageDataset
    dataroot_gt: datasets/$data/${{data}}_HR$sub.lmdb
    dataroot_lq: datasets/$data/${{data}}_LRx${{scale}}$sub.lmdb
    io_backend:
      type: lmdb

    gt_size: $gt_size  # LR patch $lr_patch x scale
    use_hflip: true
    use_rot: true

    num_worker_per_gpu: $workers
    batch_size_per_gpu: $batch
    dataset_enlarge_ratio: $enlarge
    prefetch_mode: ~

  # Made by: compsrt data get Set5
$val_sets
network_g:
  type: SwinIR
{SWINIR}
path:
  pretrain_network_g: $start
  strict_load_g: $strict
  resume_state: ~

train:
  ema_decay: $ema_decay
  optim_g:
    type: Adam
    lr: $rate
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
$scheduler

  total_iter: $iterations
  warmup_iter: -1
  amp: $amp
$tail
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean

val:
  val_freq: $val_freq
  save_img: false
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: $scale
      test_y_channel: true

logger:
  print_freq: 100
  save_checkpoint_freq: $val_freq
  use_tb_logger: true
"""

_STEPS = """\
    type: MultiStepLR
    milestones: $milestones
    gamma: 0.5"""

_COSINE = """\
    type: CosineAnnealingRestartLR
    periods: [$iterations]
    eta_min: 0"""

_OFFICIAL: dict[str, Any] = {
    'data': 'DIV2K',
    'sub': '_sub',
    'lr_patch': 64,
    'workers': 6,
    'enlarge': 1,
    'amp': '~',
    'ema_decay': '0.999',
    'tail': '',
    'scheduler': _STEPS,
    'val_freq': 5000,
}


_OTHER_TAIL = 'false  # the tail has other channels'
_X2 = 'experiments/pretrain_swinir_light_x2/models/net_g_latest.pth\n  param_key_g: params_ema'


def _official(scale: int) -> dict[str, Any]:
    """The recipe of SwinIR-light's authors (arXiv 2108.10257 and their training code): x3 and x4 start from x2."""
    name = f'pretrain_swinir_light_x{scale}'
    first = scale == 2
    return {
        **_OFFICIAL,
        'name': name,
        'purpose': f'Pretrain SwinIR-light x{scale} in full precision, the official recipe: 64 patches an iteration in'
        ' all (on 8 GPUs 8 each).',
        'scale': scale,
        'batch': 64,
        'rate': '2.0e-4' if first else '1.0e-4  # half, since it starts from x2',
        'milestones': '[250000, 400000, 450000, 475000]' if first else '[125000, 200000, 225000, 237500]',
        'iterations': 500000 if first else 250000,
        'start': '~' if first else _X2,
        'strict': 'true' if first else _OTHER_TAIL,
    }


def _cpu(scale: int) -> dict[str, Any]:
    """A recipe for two cores: x2 from scratch, x3 and x4 from the packaged x2."""
    first = scale == 2
    length = 'a few hours on two cores, 5,500 iterations' if first else '2,000 iterations from the packaged x2'
    return {
        'name': f'pretrain_swinir_light_x{scale}_cpu',
        'purpose': f'Pretrain SwinIR-light x{scale} in full precision on a CPU: {length}.',
        'scale': scale,
        'data': 'BSDS200',
        'sub': '_sub',
        'lr_patch': 32,
        'workers': 1,
        'batch': 8,
        'enlarge': 10,
        'amp': '~  # bf16: about 1.7 times as fast on a processor with AVX-512 BF16',
        'rate': '6.0e-4' if first else '3.0e-4  # half, since it starts from x2',
        'ema_decay': '0.999' if first else '0.99  # 0.999 would keep an eighth of the start',
        'tail': '' if first else '  fit_tail: 64  # patches; the tail of x2 has other channels\n',
        'scheduler': _COSINE,
        'iterations': 5500 if first else 2000,
        'val_freq': 500 if first else 250,
        'start': '~' if first else 'zoo://swinir_light_x2_house',
        'strict': 'true' if first else _OTHER_TAIL,
        'milestones': '',
    }


def all_files() -> dict[str, str]:
    """Returns the text of every file by its path below the output folder."""
    files = {}
    for values in (recipe(scale) for recipe in (_official, _cpu) for scale in (2, 3, 4)):
        sets = dataset_blocks({'val': 'Set5'}, values['scale'])
        size = {'schema': 'schema.json', 'gt_size': values['lr_patch'] * values['scale'], 'val_sets': sets}
        files[f'{values["name"]}.yml'] = fill(_PRETRAIN, {**values, **size})
    return files
