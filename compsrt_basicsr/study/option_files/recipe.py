"""The two recipes: `strict` keeps every code within its bits, `paper` runs the experiment as published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What differs between the strict files and the paper's.

    Attributes:
        folder: Where the files lie below the output folder.
        prefix: First part of every run's name; the files are called compsrt_… in both folders.
        purpose: What the codes may do; the first line of each file ends with it.
        published: How the published figures relate to a run of the file.
        code_range, transform: Values of `network_g.quant`, with their comments.
        grids: Lines of `network_g.quant`, what has a grid of its own.
        attention: Lines of `network_g.quant`, how the products of the attention are quantized.
        reconstruction: Lines of `calibration`.
        trainable, optimizer, scheduler, pixel_opt, feature_opt: Blocks of `train`, indented as there.
    """

    folder: str
    prefix: str
    purpose: str
    published: str
    code_range: str
    transform: str
    grids: str
    attention: str
    reconstruction: str
    trainable: str
    optimizer: str
    scheduler: str
    pixel_opt: str
    feature_opt: str


ADAM_IN_STEPS = """\
    type: Adam
    lr: 1.0e-2  # bounds and offsets are learned in units of the calibrated step
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

STRICT = Recipe(
    folder='.',
    prefix='compsrt',
    purpose='codes never leave their $bits bits (at most $levels levels).',
    published="""\
# That is for the paper's unclamped code range (options/paper/compsrt_$row.yml);
# a strict run is another experiment and need not reach it.""",
    code_range='strict  # codes clamped to [0, 2^bits - 1]',
    transform='blocks  # Hadamard matrices of order 12 to 20 along the diagonal: no padding',
    grids="""\
    equalize: true  # channels are shifted and scaled before the transform
    act_granularity: token  # a grid for each token
""",
    attention="""\
    attention_transform: false  # q and k lose less as they are
    softmax: deferred  # its numerator is quantized; the sum of a row divides the product with v
""",
    reconstruction="""\
  reconstruct: true  # layers make up for the quantization errors before them
""",
    trainable="""\
  trainable: all  # quantizers and weights
  weight_lr: 1.0e-3  # of quantized layers
  unquantized_lr: 1.0e-4  # of convolutions, LayerNorms and position bias, which stay in full precision""",
    optimizer=ADAM_IN_STEPS,
    scheduler=COSINE,
    pixel_opt="""\
    type: L1Loss
    loss_weight: 1.0
    reduction: mean""",
    feature_opt='  feature_opt: ~  # the output alone is learned from: measured better than with features',
)

PAPER = Recipe(
    folder='paper',
    prefix='compsrt_paper',
    purpose='the published formula and recipe.',
    published="""\
# Codes are not clamped: a quantizer can use more than $levels levels, and such a result is not a $bits-bit one.""",
    code_range='paper  # as published: codes are not clamped',
    transform='padded  # as published: Sylvester matrices on zero-padded dimensions',
    grids='',
    attention='',
    reconstruction='',
    trainable='  trainable: quantizers  # the full-precision weights stay frozen',
    optimizer=ADAM,
    scheduler=CONSTANT_RATE,
    pixel_opt="""\
    type: PublishedPixelLoss  # the published scaling, not the mean
    loss_weight: 1.0""",
    feature_opt="""\
  feature_opt:
    type: PublishedFeatureLoss
    loss_weight: 5.0""",
)

RECIPES = (STRICT, PAPER)
