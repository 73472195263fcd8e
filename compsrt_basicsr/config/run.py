"""All options of a run: what an option file may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from compsrt_basicsr.config.base import Section
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.datasets import Dataset
from compsrt_basicsr.config.field_text import Accepts
from compsrt_basicsr.config.methods.presets import METHODS, get_method
from compsrt_basicsr.config.networks import Network
from compsrt_basicsr.config.training import LoggerOptions, TrainOptions
from compsrt_basicsr.config.types import Count, FolderName, Names, PositiveCount
from compsrt_basicsr.config.validation import ValidationOptions
from compsrt_basicsr.errors import CompSRTError

NETWORKS = ('network_g', 'network_d', 'network_t')
# What `parse_options` and resuming add: no options of a file, and not checked.
SET_BY_PARSING = {'dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path', 'resume_from'}
SET_IN_PATH = {'experiments_root', 'results_root', 'models', 'training_states', 'log', 'visualization'}
SET_IN_DATASET = {'scale', 'phase'}


def _method(name: str) -> str:
    try:
        return get_method(name).name
    except CompSRTError as error:
        raise ValueError(str(error)) from error


MethodName = Annotated[
    str, AfterValidator(_method), Accepts('a [method](methods.md)'), Field(json_schema_extra={'enum': list(METHODS)})
]


class PathOptions(Section):
    """The section `path`."""

    pretrain_network_t: str | None = Field(
        None,
        description="The teacher's weights: `.pth`, `.safetensors`, or `zoo://NAME`; required in distillation.",
    )
    param_key_t: str | None = Field('params', description='Entry of a `.pth` that holds them.')
    strict_load_t: bool = Field(True, description='Refuse weights that do not fit; `false` skips them.')
    pretrain_network_g: str | None = Field(
        None,
        description="Weights of the network; without them a student starts from its teacher's. Full precision, our "
        'own, and, in paper range, checkpoints of the authors’ code and of 2DQuant.',
    )
    param_key_g: str | None = Field('params', description='Entry of a `.pth` that holds them.')
    strict_load_g: bool = Field(True, description='Refuse weights that do not fit.')
    pretrain_network_d: str | None = Field(
        None, description='Weights of a discriminator, for models of other packages.'
    )
    param_key_d: str | None = Field('params', description='Entry of a `.pth` that holds them.')
    strict_load_d: bool = Field(True, description='Refuse weights that do not fit.')
    resume_state: str | None = Field(None, description='A `.state` to resume from; `--auto_resume` finds the last.')
    ignore_resume_networks: Names | None = Field(None, description='Networks that are not resumed.')


class RunOptions(Section):
    """The options of a training or a test."""

    name: FolderName = Field(description='Name of the run and of its folder.')
    model_type: str = Field(
        description='`CompSRTModel` distils and tests quantized networks, `CompSRTPretrainModel` trains in full '
        'precision; models of BasicSR work too.'
    )
    method: MethodName | None = Field(
        None,
        description='A method: it fills in what `network_g.quant`, `calibration` and `train` leave out.',
    )
    scale: PositiveCount = Field(description='Upscaling factor.')
    num_gpu: Literal['auto'] | Count = Field(description='GPUs of a process; `auto` takes those there are, if any.')
    manual_seed: Count = Field(0, description='Seed of all random numbers.')
    datasets: dict[str, Dataset] = Field(
        description='`train` and `val` in training, `test_1`, `test_2` and so on in a test.'
    )
    network_g: Network = Field(description='The network.')
    network_t: Network | None = Field(
        None, description='The full-precision teacher: `type` and arguments; required in distillation.'
    )
    network_d: Network | None = Field(None, description='A discriminator, for models of other packages.')
    path: PathOptions = Field(description='Weights and states.')
    calibration: CalibrationConfig | None = Field(None, description='How the bounds are found before training.')
    train: TrainOptions | None = Field(None, description='Optimizer, losses and schedule; required in training.')
    val: ValidationOptions | None = Field(None, description='Validation and test.')
    logger: LoggerOptions | None = Field(None, description='Logs and checkpoints; required in training.')
    dist_params: dict[str, Any] | None = Field(None, description='Parameters of `--launcher slurm`.')
    find_unused_parameters: bool = Field(False, description='For distributed training with unused parameters.')
