"""Distillation losses for BasicSR's LOSS_REGISTRY."""

from __future__ import annotations

from typing import cast

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.losses.distances import feature_distance, published_feature_distance, published_pixel_distance

RESIDUAL_GROUPS = 'layers.*.residual_group'


@LOSS_REGISTRY.register()
class FeatureDistillationLoss(nn.Module):
    """The sum of `feature_distance` over the features of the chosen modules, times a weight.

    Args:
        loss_weight: weight of the sum.
        modules: name pattern (fnmatch) of the modules whose outputs are compared; the default are SwinIR's RSTBs.
        normalize: 'token' or 'sample', see `feature_distance`.

    Raises:
        CompSRTError: if `normalize` is neither.
    """

    def __init__(self, loss_weight: float = 5.0, modules: str = RESIDUAL_GROUPS, normalize: str = 'token') -> None:
        super().__init__()
        if normalize not in ('token', 'sample'):
            raise CompSRTError(f"`normalize` must be 'token' or 'sample', got {normalize!r}.")
        self.loss_weight, self.modules_pattern, self.normalize = loss_weight, modules, normalize

    def forward(self, students: list[Tensor], teachers: list[Tensor]) -> Tensor:
        """Returns the loss of features (B, L, C) or (B, C, H, W), one of each list a module."""
        distances = (feature_distance(s, t, self.normalize) for s, t in zip(students, teachers))
        return self.loss_weight * cast(Tensor, sum(distances))


@LOSS_REGISTRY.register()
class PublishedFeatureLoss(nn.Module):
    """The authors' feature term, `published_feature_distance`, summed over the chosen modules, times a weight.

    Args:
        loss_weight: weight of the sum.
        modules: name pattern (fnmatch) of the modules whose outputs are compared; the default are SwinIR's RSTBs.
    """

    def __init__(self, loss_weight: float = 5.0, modules: str = RESIDUAL_GROUPS) -> None:
        super().__init__()
        self.loss_weight, self.modules_pattern = loss_weight, modules

    def forward(self, students: list[Tensor], teachers: list[Tensor]) -> Tensor:
        """Returns the loss of features (B, L, C) or (B, C, H, W), one of each list a module."""
        distances = (published_feature_distance(s, t) for s, t in zip(students, teachers))
        return self.loss_weight * cast(Tensor, sum(distances))


@LOSS_REGISTRY.register()
class PublishedPixelLoss(nn.Module):
    """The authors' pixel term, `published_pixel_distance`, times a weight.

    Args:
        loss_weight: weight of the term.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the loss of two outputs (B, C, H, W) in [0, 1]."""
        return self.loss_weight * published_pixel_distance(student, teacher)
