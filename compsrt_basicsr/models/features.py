"""Intermediate features of a network."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError


class FeatureTap:
    """Collects the outputs of the modules whose names match a pattern, in definition order.

    Args:
        network: the network, which gets forward hooks.
        pattern: name pattern (fnmatch); a `*` matches one part of a dotted name.

    Raises:
        CompSRTError: if no module matches.
    """

    def __init__(self, network: nn.Module, pattern: str) -> None:
        depth = pattern.count('.')
        modules = [m for n, m in network.named_modules() if n.count('.') == depth and fnmatchcase(n, pattern)]
        if not modules:
            raise CompSRTError(
                f'No module of {type(network).__name__} matches `train.feature_opt.modules` {pattern!r}: '
                'give the modules whose outputs to compare.'
            )
        self._features: list[Tensor] = []
        for module in modules:
            module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._features.append(output)

    def take(self) -> list[Tensor]:
        """Returns the features since the last call, float32, (B, L, C) or (B, C, H, W) each, and forgets them."""
        features, self._features = self._features, []
        return [feature.float() for feature in features]
