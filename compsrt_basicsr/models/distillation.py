"""The loss of a distillation: outputs and features of the student compared with the teacher's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.losses import build_loss
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.features import FeatureTap


class DistillationTerms:
    """The terms `l_pix` and `l_feature` of `train.pixel_opt` and `train.feature_opt`; the ground truth is never used.

    Args:
        train: the section `train`.
        student: the network that trains, not wrapped for distributed training.
        teacher: the full-precision network.
        device: where the losses compute.

    Raises:
        CompSRTError: if `train` has neither term, or the features are those of no module.
    """

    def __init__(self, train: Mapping[str, Any], student: nn.Module, teacher: nn.Module, device: torch.device) -> None:
        self.pixel = build_loss(train['pixel_opt']).to(device) if train.get('pixel_opt') else None
        self.feature = build_loss(train['feature_opt']).to(device) if train.get('feature_opt') else None
        if self.pixel is None and self.feature is None:
            raise CompSRTError('Nothing to learn from: give `train.pixel_opt`, `train.feature_opt`, or both.')
        self.taps: tuple[FeatureTap, ...] = ()
        if self.feature is not None:
            self.taps = tuple(FeatureTap(network, self.feature.modules_pattern) for network in (student, teacher))

    def __call__(self, output: Tensor, target: Tensor) -> OrderedDict[str, Tensor]:
        """Returns each term, weighted, for the outputs (B, C, H, W) of the last forward passes."""
        terms: OrderedDict[str, Tensor] = OrderedDict()
        if self.pixel is not None:
            terms['l_pix'] = self.pixel(output, target)
        if self.feature is not None:
            student, teacher = (tap.take() for tap in self.taps)
            terms['l_feature'] = self.feature(student, teacher)
        return terms

    def forget_features(self) -> None:
        """Drops what was tapped from a student that ran for another purpose than training."""
        for tap in self.taps[:1]:
            tap.take()
