"""The losses of `train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from compsrt_basicsr.config.base import Options

_OURS = ('FeatureDistillationLoss', 'PublishedFeatureLoss', 'PublishedPixelLoss')
_GROUPS = 'layers.*.residual_group'


class FeatureDistillationLoss(Options):
    """Mean squared distance of normalised features, summed over modules."""

    type: Literal['FeatureDistillationLoss'] = Field(description='`FeatureDistillationLoss`.')
    loss_weight: float = Field(5.0, ge=0, description='Weight of the sum over the modules.')
    modules: str = Field(
        _GROUPS,
        description='Name pattern of the modules whose outputs are compared; `*` is one part of a name.',
    )
    normalize: Literal['token', 'sample'] = Field(
        'token', description="`token` gives each token's channels the norm 1, `sample` the features of a whole sample."
    )


class PublishedFeatureLoss(Options):
    """The authors' feature term, in their scaling."""

    type: Literal['PublishedFeatureLoss'] = Field(description='`PublishedFeatureLoss`.')
    loss_weight: float = Field(5.0, ge=0, description='Weight of the sum over the modules.')
    modules: str = Field(_GROUPS, description='Name pattern of the modules, as above.')


class PublishedPixelLoss(Options):
    """The authors' pixel term, in their scaling."""

    type: Literal['PublishedPixelLoss'] = Field(description='`PublishedPixelLoss`.')
    loss_weight: float = Field(1.0, ge=0, description='Weight of the term.')


class OtherLoss(Options):
    """Any other loss of BasicSR's registry, whose arguments are checked against its signature."""

    model_config = ConfigDict(extra='allow')

    type: str = Field(
        description='Name of the registered loss, such as `L1Loss`.', json_schema_extra={'not': {'enum': list(_OURS)}}
    )
    loss_weight: float = Field(1.0, description='Weight of the loss.')


def _kind(section: Any) -> str:
    name = section.get('type') if isinstance(section, Mapping) else getattr(section, 'type', None)
    return str(name) if name in _OURS else 'OtherLoss'


Loss = Annotated[
    Annotated[FeatureDistillationLoss, Tag('FeatureDistillationLoss')]
    | Annotated[PublishedFeatureLoss, Tag('PublishedFeatureLoss')]
    | Annotated[PublishedPixelLoss, Tag('PublishedPixelLoss')]
    | Annotated[OtherLoss, Tag('OtherLoss')],
    Discriminator(_kind),
]
