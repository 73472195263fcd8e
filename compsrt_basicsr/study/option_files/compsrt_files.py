"""Option files of the published experiments: one to train and one to test for each row of the table."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from compsrt_basicsr.study.option_files.blocks import SCHEMA, SWINIR, VAL_SETTINGS, WATCHING, dataset_blocks, fill
from compsrt_basicsr.study.option_files.recipe import RECIPES, Recipe
from compsrt_basicsr.study.published import TEST_SETS, published_row

SCALES = (2, 3, 4)
BITS = (4, 3, 2)
PRUNED_BITS = (4, 3)
PRUNE_RATIO = 0.4
LR_PATCH = 64
BATCH = 16
# PSNR (dB) with 40% of the weights pruned, by (scale, bits): as far as known here.
_PUBLISHED_PRUNED = {(4, 4): 'about 32.02 on Set5', (4, 3): 'about 31.74 on Set5'}

HEADER = f"""\
{SCHEMA}\
# $verb SwinIR-light x$scale, $bits-bit weights and activations$pruned: $purpose
# Table row: CompSRT, SwinIR-light x$scale, $bits bits$pruned.
# Published PSNR (dB): $psnr.
$published
# Command: basicsr $command -opt $path
"""

NETWORK_G = f"""\
network_g:
  type: CompSRTSwinIR
{SWINIR}\
  quant:
    weight_bits: $bits
    act_bits: $bits
    code_range: $code_range
    transform: $transform
$grids$attention$pruning"""

TRAINING_SETS = """\
datasets:
  # Made by: compsrt data get DF2K
  train:
    name: DF2K
    type: PairedImageDataset
    dataroot_gt: datasets/DF2K/DF2K_HR_sub.lmdb
    dataroot_lq: datasets/DF2K/DF2K_LRx${scale}_sub.lmdb
    io_backend:
      type: lmdb

    gt_size: $gt_size  # LR patch $lr_patch x scale
    use_hflip: true
    use_rot: true

    num_worker_per_gpu: 4
    batch_size_per_gpu: $batch
    dataset_enlarge_ratio: 1
    prefetch_mode: ~

  # Made by: compsrt data get Set5
$val_sets
"""

TRAINING = f"""\
calibration:
  method: dobi
$reconstruction  num_patches: 32  # LR patches of gt_size / scale

train:
$trainable
  optim_g:
$optimizer
  scheduler:
$scheduler

  total_iter: 4000
  warmup_iter: -1
  grad_clip_value: 1.0

  pixel_opt:
$pixel_opt
$feature_opt

{WATCHING}"""

TESTING = f"""\
path:
  pretrain_network_g: experiments/$train_name/models/net_g_latest.pth
  param_key_g: params
  strict_load_g: true

val:
{VAL_SETTINGS}"""

_RUN = """\
name: $name
model_type: CompSRTModel
scale: $scale
num_gpu: auto  # 0 on a machine without CUDA
manual_seed: 3407
"""

TRAIN = f"""\
{HEADER}
{_RUN}
{TRAINING_SETS}{NETWORK_G}
network_t:
  type: SwinIR
{SWINIR}
path:
  # The official weights, downloaded at the first run; the student starts from its teacher's weights.
  pretrain_network_t: zoo://swinir_light_x$scale
  param_key_t: params
  resume_state: ~

{TRAINING}"""

TEST = f"""\
{HEADER}
{_RUN}
# Made by: compsrt data get Set5 Set14 B100 Urban100 Manga109
datasets:
$val_sets
{NETWORK_G}
{TESTING}"""


PRUNING = """\
    prune_ratio: $prune_ratio  # exactly this share of the transformed coefficients of each weight is 0
"""


def published_psnr(scale: int, bits: int, pruned: bool) -> tuple[str, str]:
    """The published figures for the header of the training file (Set5) and of the test file (all sets)."""
    if pruned:
        unknown = 'the figure of this row is not recorded here; see arXiv 2601.21069'
        return (_PUBLISHED_PRUNED.get((scale, bits), unknown),) * 2
    psnr = {name: f'{cell.psnr:.2f}' for name, cell in published_row('CompSRT', scale, bits).items()}
    return f'{psnr["Set5"]} on Set5', ', '.join(f'{name} {value}' for name, value in psnr.items())


def row_name(scale: int, bits: int, pruned: bool = False) -> str:
    """'x2_w4a4', 'x2_w4a4_p40': the row in the names of files and runs."""
    return f'x{scale}_w{bits}a{bits}' + (f'_p{100 * PRUNE_RATIO:.0f}' if pruned else '')


def render(recipe: Recipe, scale: int, bits: int, pruned: bool = False) -> dict[str, str]:
    """Return the training and the test file of one table row, with or without 40% of the weights pruned.

    Returns:
        File texts by their path below the output folder, in POSIX form.
    """
    percent = f'{PRUNE_RATIO:.0%}'
    row = row_name(scale, bits, pruned)
    train_name = f'{recipe.prefix}_{row}'
    values = {
        **vars(recipe),
        'scale': scale,
        'bits': bits,
        'levels': 2**bits,
        'gt_size': LR_PATCH * scale,
        'lr_patch': LR_PATCH,
        'batch': BATCH,
        'train_name': train_name,
        'row': row,
        'prune_ratio': PRUNE_RATIO,
        'pruning': PRUNING if pruned else '',
        'pruned': f', {percent} pruned' if pruned else '',
        'schema': 'schema.json' if recipe.folder == '.' else '../schema.json',
    }
    psnr = published_psnr(scale, bits, pruned)
    train = {
        'verb': 'Train',
        'command': 'train',
        'file': f'compsrt_{row}.yml',
        'name': train_name,
        'psnr': psnr[0],
        'suffix': '',
        'val_sets': dataset_blocks({'val': 'Set5'}, scale),
    }
    test = {
        'verb': 'Test',
        'command': 'test',
        'file': f'test_compsrt_{row}.yml',
        'name': f'test_{train_name}',
        'psnr': psnr[1],
        'suffix': '  suffix: ~\n',
        'val_sets': dataset_blocks({f'test_{i}': name for i, name in enumerate(TEST_SETS, 1)}, scale),
    }
    files = {}
    for template, own in ((TRAIN, train), (TEST, test)):
        path = (Path(recipe.folder) / own['file']).as_posix()
        files[path] = fill(template, {**values, **own, 'path': f'options/{path}'})
    return files


def all_files() -> dict[str, str]:
    """Text of every file by its path below the output folder."""
    settings = [(bits, False) for bits in BITS] + [(bits, True) for bits in PRUNED_BITS]
    files: dict[str, str] = {}
    for recipe, scale, (bits, pruned) in product(RECIPES, SCALES, settings):
        files |= render(recipe, scale, bits, pruned)
    return files
