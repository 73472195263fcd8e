"""Option files of MambaIRv2-light: a test in full precision, training and tests of two placements of the quantizers.

The published formula, with the placement of its authors, is in the folder of the published recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from compsrt_basicsr.study.option_files.blocks import SCHEMA, VAL_SETTINGS, dataset_blocks, fill
from compsrt_basicsr.study.option_files.compsrt_files import (
    BATCH,
    BITS,
    LR_PATCH,
    PRUNE_RATIO,
    PRUNED_BITS,
    PRUNING,
    SCALES,
    TESTING,
    TRAINING,
    TRAINING_SETS,
    row_name,
)
from compsrt_basicsr.study.option_files.recipe import PAPER, STRICT, Recipe
from compsrt_basicsr.study.published import TEST_SETS

FOLDER = 'mambairv2'

NETWORK = """\
upscale: $scale
in_chans: 3
img_size: 64
img_range: 1.
embed_dim: 48
d_state: 8
depths: [5, 5, 5, 5]
num_heads: [4, 4, 4, 4]
window_size: 16
inner_rank: 32
num_tokens: 64
mlp_ratio: 1.0
upsampler: pixelshuffledirect
resi_connection: 1conv
routing: sample  # each token draws its prompt, as published; argmax takes the likeliest
"""


def indented(text: str, spaces: int) -> str:
    return ''.join(f'{" " * spaces}{line}\n' for line in text.splitlines())


_STUDENT = f"""\
network_g:
  type: CompSRTNet
  base:
    type: MambaIRv2Light
{indented(NETWORK, 4)}\
  quant:
    weight_bits: $bits
    act_bits: $bits
    code_range: $code_range
    transform: $transform
$grids$placement$pruning"""

_HEAD = f"""\
{SCHEMA}\
# $purpose
$codes# Command: basicsr $command -opt $path

name: $name
model_type: $model
scale: $scale
num_gpu: auto  # 0 on a machine without CUDA
manual_seed: 3407
"""

_TEST_SETS = """\

# Made by: compsrt data get Set5 Set14 B100 Urban100 Manga109
datasets:
$val_sets
"""

_FULL_PRECISION = f"""\
{_HEAD}{_TEST_SETS}
network_g:
  type: MambaIRv2Light
{indented(NETWORK, 2)}\
  routing_seed: 0

path:
  pretrain_network_g: zoo://mambairv2_light_x$scale
  param_key_g: params

val:
{VAL_SETTINGS}"""

_TEST = f"""\
{_HEAD}{_TEST_SETS}
{_STUDENT}
{TESTING}"""

_TRAIN = f"""\
{_HEAD}
{TRAINING_SETS}{_STUDENT}
network_t:
  type: MambaIRv2Light
{indented(NETWORK, 2)}
path:
  # The official weights, downloaded at the first run; the student starts from its teacher's weights.
  pretrain_network_t: zoo://mambairv2_light_x$scale
  param_key_t: params
  resume_state: ~

{TRAINING}"""


_RECIPE = (
    replace(  # the rates of SwinIR undo this calibration: 49.9 dB became 45.2 in 45 iterations, and 50.4 with these
        STRICT,
        transform='auto  # the exact transform of each order: no padding',
        grids=f'{STRICT.grids}    granularity: channel  # and for each output channel of a weight\n',
        trainable="""\
  trainable: all  # quantizers and weights
  weight_lr: 1.0e-4  # of quantized layers
  unquantized_lr: 1.0e-5  # of convolutions, LayerNorms and position bias, which stay in full precision""",
        optimizer=STRICT.optimizer.replace('1.0e-2', '2.0e-3'),
    )
)
# Everything at 2 bits: moved bounds are errors that all tokens share, and the weights must move far.
_TWO_BITS = replace(
    _RECIPE,
    trainable=_RECIPE.trainable.replace('1.0e-4', '1.0e-3').replace('1.0e-5', '2.0e-4'),
    optimizer=_RECIPE.optimizer.replace('2.0e-3', '2.0e-4'),
    pixel_opt="""\
    type: MSELoss  # that of the PSNR; L1 prefers smooth regions
    loss_weight: 1000  # gradients far above the eps of Adam
    reduction: mean""",
)


@dataclass(frozen=True)
class Placement:
    """Where the quantizers are.

    Attributes:
        name: in the names of files.
        what: what is quantized, for the first line.
        lines: of `quant`.
        recipe: how it is trained.
        two_bits: how it is trained at 2 bits; None: likewise.
    """

    name: str
    what: str
    lines: str
    recipe: Recipe = _RECIPE
    two_bits: Recipe | None = None

    @property
    def folder(self) -> str:
        """Folder of the files below the output folder."""
        return self.recipe.folder if self.recipe is PAPER else FOLDER

    @property
    def prefix(self) -> str:
        """What stands before the row in the names of files."""
        return f'mambairv2_{self.name}_' if self.recipe is PAPER else f'{self.name}_'

    @property
    def run(self) -> str:
        """What stands before the row in the names of runs."""
        return f'mambairv2_{"paper_" if self.recipe is PAPER else ""}{self.name}_'

    def lr_patch(self, scale: int) -> int:
        """Returns the side of the training patches in LR pixels; the authors halve it at x4."""
        return LR_PATCH // 2 if self.recipe is PAPER and scale == 4 else LR_PATCH


PLACEMENTS = (
    Placement(
        'linears',
        "CompSRT's placement, linear layers",
        """\
    layers:
      '*.selectiveScan.*':
        operands: weights  # the projections of the scan have full-precision inputs
""",
    ),
    Placement(
        'all',
        "SPR2Q's placement, with attention, convolutions and scans",
        """\
    quantize_convs: true
    quantize_products: true
    quantize_scan: true
    attention_transform: false
    exclude: ['layers.?.conv', conv_after_body]  # the 3x3 convolutions
""",
        two_bits=_TWO_BITS,
    ),
    Placement(
        'linears',
        "the published formula and recipe, CompSRT's placement",
        """\
    layers:
      '*.selectiveScan.*':
        operands: weights  # the projections of the scan have full-precision inputs
    split:
      '*.wqkv': [q, k, v]  # each with grids of its own
""",
        PAPER,
    ),
)


def _full_precision(scale: int) -> tuple[str, str]:
    name = f'test_full_precision_x{scale}'
    values = {
        'purpose': f'Test the official MambaIRv2-light x{scale} in full precision.',
        'command': 'test',
        'model': 'CompSRTPretrainModel',
        'name': f'mambairv2_{name}',
        'codes': '',
        **_common(scale, f'{FOLDER}/{name}.yml', TEST_SETS),
    }
    return values['path'].removeprefix('options/'), fill(_FULL_PRECISION, {**values, 'suffix': '  suffix: ~\n'})


def _quantized(placement: Placement, scale: int, bits: int, pruned: bool) -> dict[str, str]:
    row, patch = row_name(scale, bits, pruned), placement.lr_patch(scale)
    recipe = placement.two_bits if bits == 2 and placement.two_bits else placement.recipe
    what = f'MambaIRv2-light x{scale}, {bits} bits{", 40% pruned" if pruned else ""}: {placement.what}.'
    shared = {
        **vars(recipe),
        'bits': bits,
        'levels': 2**bits,
        'codes': f'{recipe.published}\n' if recipe is PAPER else '',
        'model': 'CompSRTModel',
        'train_name': f'{placement.run}{row}',
        'gt_size': patch * scale,
        'lr_patch': patch,
        'batch': BATCH,
        'placement': placement.lines,
        'pruning': PRUNING if pruned else '',
        'prune_ratio': PRUNE_RATIO,
    }
    files = {}
    for verb, template, prefix, suffix in (('Train', _TRAIN, '', ''), ('Test', _TEST, 'test_', '  suffix: ~\n')):
        sets = ('Set5',) if verb == 'Train' else TEST_SETS
        own = {'purpose': f'{verb} {what}', 'command': verb.lower(), 'name': f'{prefix}{placement.run}{row}'}
        file = f'{placement.folder}/{prefix}{placement.prefix}{row}.yml'
        common = _common(scale, file, sets, 'val' if verb == 'Train' else None)
        files[common['path'].removeprefix('options/')] = fill(template, {**shared, **own, **common, 'suffix': suffix})
    return files


def _common(scale: int, file: str, sets: tuple[str, ...], phase: str | None = None) -> dict[str, str]:
    phases = {phase or f'test_{number}': name for number, name in enumerate(sets, 1)}
    return {
        'scale': str(scale),
        'schema': '../schema.json',
        'path': f'options/{file}',
        'val_sets': dataset_blocks(phases, scale),
    }


def all_files() -> dict[str, str]:
    """Returns the text of every file by its path below the output folder."""
    files = dict(_full_precision(scale) for scale in SCALES)
    settings = [(bits, False) for bits in BITS] + [(bits, True) for bits in PRUNED_BITS]
    for placement, scale, (bits, pruned) in product(PLACEMENTS, SCALES, settings):
        files |= _quantized(placement, scale, bits, pruned)
    return files
