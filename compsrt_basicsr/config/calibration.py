"""The section `calibration`: how the bounds are found before training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.types import Seed
from compsrt_basicsr.errors import CompSRTError


class CalibrationConfig(Options):
    """The section `calibration`: how the bounds are found before training.

    Raises:
        CompSRTError: when built with values that do not fit; the message lists every error.
    """

    method: Literal['dobi', 'minmax', 'percentile', 'lsq', 'lsq+'] = Field(
        'dobi',
        description='`dobi` finds bounds of the least squared error (2DQuant, arXiv 2406.06649), `minmax` takes the '
        'range; `lsq` and `lsq+` set the first step of LSQ and of LSQ+ ([methods](methods.md#equations)).',
    )
    percentile: float = Field(
        99.9, gt=50, le=100, description='p of `percentile`: the bounds are the (100 − p)-th and the p-th percentile.'
    )
    search: Literal['auto', 'one', 'two'] = Field(
        'auto',
        description='`two` moves both bounds, `one` the upper one; `auto` moves one where the smallest value is the '
        'most frequent, as after softmax.',
    )
    candidates: int = Field(100, ge=1, le=10_000, description='Number of bounds tried for each tensor.')
    precondition: float = Field(
        0.0,
        ge=0,
        le=100,
        description='λ that first lowers the condition numbers of the linears’ weights, in the manner of CondiQuant '
        '([methods](methods.md#equations)); 0 leaves the weights as they are.',
    )
    precondition_steps: int = Field(30, ge=1, le=10_000, description='Gradient steps of `precondition`.')
    reconstruct: bool = Field(
        False,
        description='Calibrate in the order of execution and refit the layers to the full-precision network '
        '([how](methods.md#equations)); needs strict range and an exact transform.',
    )
    least_squares: bool | None = Field(
        None,
        description='Whether `reconstruct` fits weights by least squares before it rounds them; `~` does so in a '
        'SwinIR, and not in other networks, whose residual streams it does not know ([how](methods.md#equations)).',
    )
    num_patches: int = Field(32, ge=1, le=10_000, description='LR patches drawn from the training set, without flips.')
    patch_size: Annotated[int, Field(ge=8, le=4096)] | None = Field(
        None, description='Side of the patches in LR pixels; `~` is `gt_size` / `scale` of the training set.'
    )
    seed: Seed = Field(0, description='Seed of the draw.')
    file: str | None = Field(
        None, description='A saved `calibration.pth`, whose patches replace those of the training set.'
    )

    def check(self, quant: QuantConfig) -> None:
        """Compares the section with what is quantized.

        Raises:
            CompSRTError: `reconstruct` does not go with the range or the transform.
        """
        if self.reconstruct and (quant.code_range != 'strict' or quant.transform == 'padded'):
            raise CompSRTError(
                '`reconstruct` needs `quant.code_range: strict` and an exact transform such as `auto`, got '
                f'`{quant.code_range}` and `{quant.transform}`: set `calibration.reconstruct: false`.'
            )
