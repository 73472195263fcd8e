"""The section `train`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from compsrt_basicsr.config.base import Options, Section
from compsrt_basicsr.config.losses import Loss
from compsrt_basicsr.config.pruning import PruneSchedule
from compsrt_basicsr.config.types import Fraction, Iterations, IterationsOrNone, PositiveNumber, WholeNumber


class Optimizer(Options):
    """The section `optim_g`; arguments beyond these are checked against the optimizer's signature."""

    model_config = ConfigDict(extra='allow')

    type: str = Field(description='An optimizer of `torch.optim`, such as `Adam`, `AdamW` or `SGD`.')
    lr: PositiveNumber = Field(description='Learning rate; of the quantizers, where the weights have their own.')
    weight_decay: float = Field(0.0, ge=0, description='Weight decay.')
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description='Decay rates of the averages of Adam and AdamW.')


class MultiStepScheduler(Options):
    """A learning rate that falls by a factor at each milestone."""

    type: Literal['MultiStepLR', 'MultiStepRestartLR'] = Field(description='`MultiStepLR`.')
    milestones: tuple[WholeNumber, ...] = Field(description='Iterations at which the rate is multiplied by `gamma`.')
    gamma: PositiveNumber = Field(0.1, description='Factor of the learning rate at each milestone.')
    restarts: tuple[WholeNumber, ...] = Field((0,), description='Iterations at which the schedule starts again.')
    restart_weights: tuple[float, ...] = Field((1.0,), description='Factor of the rate at each restart.')

    @model_validator(mode='after')
    def _check_lengths(self) -> MultiStepScheduler:
        if len(self.restarts) != len(self.restart_weights):
            raise ValueError('`restarts` and `restart_weights` must have the same length.')
        return self


class CosineScheduler(Options):
    """A learning rate that falls along a cosine."""

    type: Literal['CosineAnnealingRestartLR'] = Field(description='`CosineAnnealingRestartLR`.')
    periods: tuple[WholeNumber, ...] = Field(
        description='Iterations of each cosine, together at least `total_iter`; a method fills in `total_iter`.'
    )
    restart_weights: tuple[float, ...] = Field((1.0,), description='Factor of the rate in each period.')
    eta_min: float = Field(0.0, ge=0, description='Learning rate at the end of a period.')

    @model_validator(mode='after')
    def _check_lengths(self) -> CosineScheduler:
        if len(self.periods) != len(self.restart_weights):
            raise ValueError('`periods` and `restart_weights` must have the same length.')
        return self


Scheduler = Annotated[MultiStepScheduler | CosineScheduler, Field(discriminator='type')]


class TrainOptions(Section):
    """The section `train`."""

    trainable: Literal['none', 'quantizers', 'all'] = Field(
        'quantizers',
        description='`quantizers` trains bounds and offsets, at most 4 numbers each, and `quant.corrections`; `all` '
        'trains the weights too; `none` ends the run after calibration.',
    )
    total_iter: IterationsOrNone = Field(description='Iterations of the training.')
    optim_g: Optimizer = Field(description='The optimizer.')
    scheduler: Scheduler = Field(description='The schedule of the learning rate.')
    weight_lr: PositiveNumber | None = Field(
        None,
        description="With `trainable: all`, learning rate of the quantized layers' weights and biases; `~` is that of "
        'the quantizers.',
    )
    unquantized_lr: PositiveNumber | None = Field(
        None,
        description='With `trainable: all`, learning rate of what stays in full precision: convolutions, LayerNorms, '
        'position bias; `~` is `weight_lr`.',
    )
    pixel_opt: Loss | None = Field(
        None, description='Loss between the outputs of student and teacher, such as `L1Loss` or `PublishedPixelLoss`.'
    )
    feature_opt: Loss | None = Field(
        None, description='Loss between their features: `FeatureDistillationLoss` or `PublishedFeatureLoss`.'
    )
    perceptual_opt: Loss | None = Field(None, description='Perceptual loss, on the ground truth; not in distillation.')
    grad_clip_value: PositiveNumber | None = Field(None, description='Clip each gradient to this magnitude.')
    amp: Literal['bf16', False] | None = Field(
        None, description='`bf16` runs the networks under bfloat16 autocast; quantizers stay in float32.'
    )
    fit_tail: WholeNumber | None = Field(
        None,
        description='Number of training patches to which the tail of a SwinIR is fitted, in closed form, before it '
        'trains in full precision from the weights of another scale; `~` leaves it random.',
    )
    ema_decay: Fraction = Field(0.0, description='Decay of the running average of the weights; 0 keeps none.')
    warmup_iter: WholeNumber = Field(-1, description='Iterations over which the learning rate rises; −1 for none.')
    gate_phase: Fraction = Field(
        0.0,
        description='Share of `total_iter`, at its end, in which only the gates of `quant.corrections` train, with new '
        'moments of the optimizer.',
    )
    prune_schedule: PruneSchedule | None = Field(
        None,
        description='Prune gradually during training ([how](pruning.md#on-a-schedule)); `~` prunes all before '
        'calibration.',
    )


class WandbOptions(Section):
    """The section `logger.wandb`."""

    project: str | None = Field(None, description='Project of Weights & Biases; `~` does not log there.')
    resume_id: str | None = Field(None, description='Id of a run to continue.')


class LoggerOptions(Section):
    """The section `logger`."""

    print_freq: Iterations = Field(description='Iterations between two lines of the log.')
    save_checkpoint_freq: Iterations = Field(description='Iterations between two checkpoints.')
    use_tb_logger: bool = Field(False, description='Write logs for TensorBoard.')
    wandb: WandbOptions | None = Field(None, description='A section with `project` and `resume_id`.')

    @model_validator(mode='after')
    def _check_wandb(self) -> LoggerOptions:
        if self.wandb is not None and self.wandb.project is not None and not self.use_tb_logger:
            raise ValueError('`wandb.project` needs `use_tb_logger: true`.')
        if self.wandb is not None and self.wandb.project is None and self.wandb.resume_id is not None:
            raise ValueError('`wandb.resume_id` needs `wandb.project`.')
        return self
