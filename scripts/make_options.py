"""Write every option file under options/ from the templates below, so that they cannot drift apart.

python scripts/make_options.py [OUTPUT_DIR]

There are two recipes: `strict` (options/) keeps every code within its bits, `paper` (options/paper/) runs the
experiment as published. Each has a training and a test file per scale (2, 3, 4) and bit width (4, 3, 2), and at 4 and 3
bits the same with 40% of the weights pruned (_p40). To change a learning rate, a schedule or a loss, change `RECIPES`
and run this again; a test compares the committed files with it.
"""

import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Template

SCALES = (2, 3, 4)
BITS = (4, 3, 2)
PRUNED_BITS = (4, 3)
PRUNE_RATIO = 0.4
LR_PATCH = 64
TEST_SETS = ('Set5', 'Set14', 'B100', 'Urban100', 'Manga109')

# PSNR (dB, Y channel) on TEST_SETS in the results table of CompSRT, arXiv 2601.21069, by (scale, bits).
PUBLISHED_PSNR = {
    (2, 4): (38.13, 33.81, 32.28, 32.57, 38.98),
    (2, 3): (38.11, 33.82, 32.27, 32.53, 38.90),
    (2, 2): (38.03, 33.70, 32.19, 32.22, 38.69),
    (3, 4): (34.56, 30.49, 29.17, 28.50, 33.83),
    (3, 3): (34.54, 30.48, 29.16, 28.47, 33.79),
    (3, 2): (34.17, 30.21, 28.97, 27.86, 33.11),
    (4, 4): (32.41, 28.74, 27.68, 26.39, 30.81),
    (4, 3): (32.31, 28.69, 27.64, 26.27, 30.60),
    (4, 2): (31.44, 28.15, 27.28, 25.38, 29.20),
}
# The same with 40% of the weights pruned, on Set5: as far as known here.
PUBLISHED_PRUNED_PSNR = {(4, 4): 'about 32.02 on Set5', (4, 3): 'about 31.74 on Set5'}


@dataclass(frozen=True)
class Recipe:
    """What differs between the strict files and the paper's.

    Attributes:
        folder: Where the files lie below the output folder.
        prefix: First part of every run's name; the files are called compsrt_… in both folders.
        purpose: What the codes may do; the first line of each file ends with it.
        published: How the published figures relate to a run of the file.
        code_range, transform: Values of `network_g.quant`, with their comments.
        optimizer, scheduler, pixel_opt, feature_opt: Blocks of `train`, indented as there.
    """

    folder: str
    prefix: str
    purpose: str
    published: str
    code_range: str
    transform: str
    optimizer: str
    scheduler: str
    pixel_opt: str
    feature_opt: str


ADAM_IN_STEPS = """\
    type: Adam
    lr: 3.0e-2  # bounds and offsets are learned in units of the calibrated step
    weight_decay: 0
    betas: [0.9, 0.99]"""

COSINE = """\
    type: CosineAnnealingRestartLR
    periods: [4000]
    eta_min: 0"""

ADAM = """\
    type: Adam
    lr: 1.0e-2
    weight_decay: 0
    betas: [0.9, 0.99]"""

CONSTANT_RATE = """\
    type: MultiStepLR
    milestones: [10000]  # beyond total_iter: a constant rate
    gamma: 0.5"""

RECIPES = (
    Recipe(
        folder='.',
        prefix='compsrt',
        purpose='codes never leave their $bits bits (at most $levels levels).',
        published="""\
# That is for the paper's unclamped code range (options/paper/compsrt_$row.yml);
# a strict run is another experiment and need not reach it.""",
        code_range='strict  # codes clamped to [0, 2^bits - 1]',
        transform='auto  # the exact transform of each order: no padding',
        optimizer=ADAM_IN_STEPS,
        scheduler=COSINE,
        pixel_opt="""\
    type: L1Loss
    loss_weight: 1.0
    reduction: mean""",
        feature_opt="""\
    type: FeatureDistillationLoss
    loss_weight: 5.0""",
    ),
    Recipe(
        folder='paper',
        prefix='compsrt_paper',
        purpose='the published formula and recipe.',
        published="""\
# Codes are not clamped: a quantizer can use more than $levels levels, and such a result is not a $bits-bit one.""",
        code_range='paper  # as published: codes are not clamped',
        transform='padded  # as published: Sylvester matrices on zero-padded dimensions',
        optimizer=ADAM,
        scheduler=CONSTANT_RATE,
        pixel_opt="""\
    type: PublishedPixelLoss  # the published scaling, not the mean
    loss_weight: 1.0""",
        feature_opt="""\
    type: PublishedFeatureLoss
    loss_weight: 5.0""",
    ),
)

HEADER = """\
# $verb SwinIR-light x$scale, $bits-bit weights and activations$pruned: $purpose
# Table row: CompSRT, SwinIR-light x$scale, $bits bits$pruned.
# Published PSNR (dB): $psnr.
$published
# Command: basicsr $command -opt $path
"""

SWINIR = """\
  upscale: $scale
  in_chans: 3
  img_size: 64
  window_size: 8
  img_range: 1.
  depths: [6, 6, 6, 6]
  embed_dim: 60
  num_heads: [6, 6, 6, 6]
  mlp_ratio: 2
  upsampler: pixelshuffledirect
  resi_connection: 1conv
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
$pruning"""

PAIRED_LMDB = """\
  $phase:
    name: $dataset
    type: PairedImageDataset
    dataroot_gt: datasets/$dataset/x$scale/${dataset}_HR.lmdb
    dataroot_lq: datasets/$dataset/x$scale/${dataset}_LRx$scale.lmdb
    io_backend:
      type: lmdb
"""

VAL_SETTINGS = """\
  save_img: false
$suffix\
  pad: symmetric  # mirrored with the edge pixel repeated, SwinIR's own protocol
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: $scale
      test_y_channel: true
    ssim:
      type: calculate_ssim
      crop_border: $scale
      test_y_channel: true
"""

TRAIN = f"""\
{HEADER}
name: $name
model_type: CompSRTModel
scale: $scale
num_gpu: auto  # 0 on a machine without CUDA
manual_seed: 3407

datasets:
  # Made by: compsrt data prepare HR_FOLDER -o datasets/DF2K --name DF2K --scale 2 --scale 3 --scale 4
  train:
    name: DF2K
    type: PairedImageDataset
    dataroot_gt: datasets/DF2K/DF2K_HR_sub.lmdb
    dataroot_lq: datasets/DF2K/DF2K_LRx${{scale}}_sub.lmdb
    io_backend:
      type: lmdb

    gt_size: $gt_size  # LR patch $lr_patch x scale
    use_hflip: true
    use_rot: true

    num_worker_per_gpu: 4
    batch_size_per_gpu: 16
    dataset_enlarge_ratio: 1
    prefetch_mode: ~

  # Made by: compsrt data prepare HR_FOLDER -o datasets/Set5/x$scale --name Set5 --scale $scale --crop 0
$val_sets
{NETWORK_G}
network_t:
  type: SwinIR
{SWINIR}
path:
  # The official weights, SwinIR release v0.0; the student starts from its teacher's weights.
  pretrain_network_t: experiments/pretrained_models/002_lightweightSR_DIV2K_s64w8_SwinIR-S_x$scale.pth
  param_key_t: params
  resume_state: ~

calibration:
  method: dobi
  num_patches: 32  # LR patches of gt_size / scale

train:
  trainable: quantizers  # the full-precision weights stay frozen
  optim_g:
$optimizer
  scheduler:
$scheduler

  total_iter: 4000
  warmup_iter: -1
  grad_clip_value: 1.0

  pixel_opt:
$pixel_opt
  feature_opt:
$feature_opt

val:
  val_freq: 100
{VAL_SETTINGS}
logger:
  print_freq: 100
  save_checkpoint_freq: 100
  use_tb_logger: true
"""

TEST = f"""\
{HEADER}
name: $name
model_type: CompSRTModel
scale: $scale
num_gpu: auto  # 0 on a machine without CUDA
manual_seed: 3407

# Each set made by: compsrt data prepare HR_FOLDER -o datasets/NAME/x$scale --name NAME --scale $scale --crop 0
datasets:
$val_sets
{NETWORK_G}
path:
  pretrain_network_g: experiments/$train_name/models/net_g_latest.pth
  param_key_g: params
  strict_load_g: true

val:
{VAL_SETTINGS}"""


PRUNING = """\
    prune_ratio: $prune_ratio  # exactly this share of the transformed coefficients of each weight is 0
"""


def fill(template: str, values: dict[str, object]) -> str:
    """Substitute `values`, whose texts may hold placeholders of their own (one level)."""
    return Template(Template(template).substitute(values)).substitute(values)


def dataset_blocks(datasets: dict[str, str], scale: int) -> str:
    """Render `datasets`, which maps a phase such as `test_1` to a set's name, one paragraph each."""
    blocks = (fill(PAIRED_LMDB, {'phase': phase, 'dataset': name, 'scale': scale}) for phase, name in datasets.items())
    return '\n'.join(blocks)


def published_psnr(scale: int, bits: int, pruned: bool) -> tuple[str, str]:
    """Return the published figures for the header of the training file (Set5) and of the test file (all sets)."""
    if pruned:
        unknown = 'the figure of this row is not recorded here; see arXiv 2601.21069'
        return (PUBLISHED_PRUNED_PSNR.get((scale, bits), unknown),) * 2
    psnr = dict(zip(TEST_SETS, (f'{value:.2f}' for value in PUBLISHED_PSNR[scale, bits])))
    return f'{psnr["Set5"]} on Set5', ', '.join(f'{name} {value}' for name, value in psnr.items())


def render(recipe: Recipe, scale: int, bits: int, pruned: bool = False) -> dict[str, str]:
    """Return the training and the test file of one table row, with or without 40% of the weights pruned.

    Returns:
        File texts by their path below the output folder, in POSIX form.
    """
    percent = f'{PRUNE_RATIO:.0%}'
    row = f'x{scale}_w{bits}a{bits}' + (f'_p{percent.rstrip("%")}' if pruned else '')
    train_name = f'{recipe.prefix}_{row}'
    values = {
        **vars(recipe),
        'scale': scale,
        'bits': bits,
        'levels': 2**bits,
        'gt_size': LR_PATCH * scale,
        'lr_patch': LR_PATCH,
        'train_name': train_name,
        'row': row,
        'prune_ratio': PRUNE_RATIO,
        'pruning': PRUNING if pruned else '',
        'pruned': f', {percent} pruned' if pruned else '',
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


def write_options(output_dir: Path) -> list[Path]:
    """Write all files below `output_dir` and return their paths."""
    settings = [(bits, False) for bits in BITS] + [(bits, True) for bits in PRUNED_BITS]
    written = []
    for recipe, scale, (bits, pruned) in product(RECIPES, SCALES, settings):
        for path, text in render(recipe, scale, bits, pruned).items():
            target = output_dir / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding='utf-8')
            written.append(target)
    return written


def main() -> None:
    """Write to the folder given on the command line, or to options/ of this checkout."""
    if len(sys.argv) > 2 or sys.argv[1:2] in (['-h'], ['--help']):
        print(__doc__)
        return
    output_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / 'options'
    print(f'{len(write_options(output_dir))} option files in {output_dir}')


if __name__ == '__main__':
    main()
