"""Option files of SPR2Q: training and test of the rows that its paper has, as far as known here.

They name the method, which fills in what they leave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from compsrt_basicsr.study.option_files.blocks import SCHEMA, SWINIR, WATCHING, dataset_blocks, fill
from compsrt_basicsr.study.option_files.compsrt_files import TESTING, TRAINING_SETS
from compsrt_basicsr.study.option_files.mambairv2_files import NETWORK, indented
from compsrt_basicsr.study.published import TEST_SETS

FOLDER = 'spr2q'
SCALES, BITS = (2, 4), (4, 2)

_HEAD = f"""\
{SCHEMA}\
# $verb $network x$scale, $bits bits, by the method SPR2Q (ICLR 2026), reimplemented: docs/methods.md.
# Codes never leave their $bits bits.$published
# Command: basicsr $command -opt $path

name: $name
model_type: CompSRTModel
method: spr2q
scale: $scale
num_gpu: auto  # 0 on a machine without CUDA
manual_seed: 3407
"""

_QUANT = """\
  quant:
    weight_bits: $bits
    act_bits: $bits
"""

_TRAIN = f"""\
{_HEAD}
{TRAINING_SETS}$student
network_t:
  type: $teacher
$arguments
path:
  # The official weights, downloaded at the first run; the student starts from its teacher's weights.
  pretrain_network_t: $weights
  param_key_t: params
  resume_state: ~

calibration:
  num_patches: 32  # LR patches of gt_size / scale

train:
  total_iter: $iterations
  gate_phase: $share  # the last 500 iterations
$optimizer
{WATCHING}"""

_TEST = f"""\
{_HEAD}
# Made by: compsrt data get Set5 Set14 B100 Urban100 Manga109
datasets:
$val_sets
$student
{TESTING}"""


@dataclass(frozen=True)
class Experiment:
    """The experiment on one network.

    Attributes:
        network: for the first line.
        name: in the names of files.
        teacher: type of the full-precision network.
        arguments: its arguments.
        student: the section `network_g` up to the bits.
        extra: further lines of `quant`.
        weights: start of the teacher's name in the zoo.
        iterations: of both phases.
        share: of the second.
        optimizer: lines of `train`.
        batch: of a step.
        patches: side of the LR patches by scale.
        published: PSNR on Set5 by scale and bits, where known.
    """

    network: str
    name: str
    teacher: str
    arguments: str
    student: str
    extra: str
    weights: str
    iterations: int
    share: float
    optimizer: str
    batch: int
    patches: dict[int, int]
    published: dict[tuple[int, int], str]


EXPERIMENTS = (
    Experiment(
        network='SwinIR-light',
        name='swinir_light',
        teacher='SwinIR',
        arguments=SWINIR,
        student=f'  type: CompSRTSwinIR\n{SWINIR}',
        extra='',
        weights='swinir_light',
        iterations=4500,
        share=0.1111,
        optimizer='',
        batch=16,
        patches={2: 64, 4: 32},
        published={(2, 2): '37.28'},
    ),
    Experiment(
        network='MambaIRv2-light',
        name='mambairv2_light',
        teacher='MambaIRv2Light',
        arguments=indented(NETWORK, 2),
        student=f'  type: CompSRTNet\n  base:\n    type: MambaIRv2Light\n{indented(NETWORK, 4)}',
        extra="""\
    quantize_convs: true
    quantize_products: true
    quantize_scan: true
    exclude: ['layers.?.conv', conv_after_body]  # the 3x3 convolutions
    split:
      '*.wqkv': [q, k, v]  # each with grids and corrections of its own
    layers:
      '*.selectiveScan.*':
        corrections: 0  # the projections of the scan
""",
        weights='mambairv2_light',
        iterations=12500,
        share=0.04,
        optimizer='  optim_g:\n    betas: [0.9, 0.999]\n',
        batch=8,
        patches={2: 64, 4: 64},
        published={(2, 4): '37.72', (2, 2): '35.97', (4, 4): '31.60', (4, 2): '29.37'},
    ),
)


def render(experiment: Experiment, scale: int, bits: int) -> dict[str, str]:
    """Returns the training and the test file of an experiment by their path below the output folder."""
    row = f'{experiment.name}_x{scale}_w{bits}a{bits}'
    psnr = experiment.published.get((scale, bits))
    patch = experiment.patches[scale]
    shared = {
        **vars(experiment),
        'scale': scale,
        'bits': bits,
        'student': f'network_g:\n{experiment.student}{_QUANT}{experiment.extra}',
        'weights': f'zoo://{experiment.weights}_x{scale}',
        'train_name': f'spr2q_{row}',
        'gt_size': patch * scale,
        'lr_patch': patch,
        'schema': '../schema.json',
        'published': f' Its paper is reported to have {psnr} dB on Set5.' if psnr else '',
    }
    files = {}
    for verb, template, prefix, suffix in (('Train', _TRAIN, '', ''), ('Test', _TEST, 'test_', '  suffix: ~\n')):
        phases = {'val': 'Set5'} if verb == 'Train' else {f'test_{i}': name for i, name in enumerate(TEST_SETS, 1)}
        own = {
            'verb': verb,
            'command': verb.lower(),
            'name': f'{prefix}spr2q_{row}',
            'path': f'options/{FOLDER}/{prefix}{row}.yml',
            'suffix': suffix,
            'val_sets': dataset_blocks(phases, scale),
        }
        files[f'{FOLDER}/{prefix}{row}.yml'] = fill(template, {**shared, **own})
    return files


def all_files() -> dict[str, str]:
    """Returns the text of every file by its path below the output folder."""
    files: dict[str, str] = {}
    for experiment, scale, bits in product(EXPERIMENTS, SCALES, BITS):
        files |= render(experiment, scale, bits)
    return files
