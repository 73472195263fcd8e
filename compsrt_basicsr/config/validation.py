"""The section `val`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from compsrt_basicsr.config.base import Options, Section
from compsrt_basicsr.config.types import Count, Iterations


class Metric(Options):
    """A metric; its arguments are checked against the signature of the registered function."""

    model_config = ConfigDict(extra='allow')

    type: str = Field(description='Name of the registered metric, such as `calculate_psnr` or `calculate_ssim`.')
    crop_border: Count = Field(
        0, description='Pixels cropped at each border, usually `scale`; required by PSNR and SSIM.'
    )
    test_y_channel: bool = Field(False, description='Measure the luma channel (BT.601) alone.')
    better: Literal['higher', 'lower'] = Field('higher', description='Which value is better.')


class ValidationOptions(Section):
    """The section `val`."""

    val_freq: Iterations | None = Field(None, description='Iterations between two validations; required in training.')
    save_img: bool = Field(False, description='Save the output images.')
    suffix: str | None = Field(None, description='Suffix of the names of saved images, in a test.')
    pbar: bool = Field(False, description='Show a progress bar.')
    pad: Literal['symmetric', 'reflect'] = Field(
        'symmetric',
        description="How images are padded to the attention window: `symmetric` repeats the edge pixel, as SwinIR's "
        'own test does; `reflect` does not, as in BasicSR. Figures differ by up to a few hundredths of a dB.',
    )
    count_codes: Literal['first', 'all', 'skip'] = Field(
        'first',
        description='A test counts the codes that quantizers use on the `first` image of each set, on `all`, or not '
        'at all (`skip`).',
    )
    metrics: dict[str, Metric] | None = Field(None, description='The metrics, each a section under a name of yours.')


# Ends the sentence of those who must refuse it.
NO_COUNT = 'does not go with `count_codes: all`, which counts by fake quantization: give `first` or `skip`.'
