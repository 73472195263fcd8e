"""Intermediate features, caught on the way."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError


class FeatureTap:
    """Collects the outputs of the modules whose names match a pattern, in definition order.

    Args:
        network: the network to listen to.
        pattern: name pattern (fnmatch); a `*` matches one part of a dotted name.

    Raises:
        CompSRTError: no module matches.
    """

    def __init__(self, network: nn.Module, pattern: str) -> None:
        depth = pattern.count('.')
        modules = [m for n, m in network.named_modules() if n.count('.') == depth and fnmatchcase(n, pattern)]
        if not modules:
            raise CompSRTError(
                f'No module of {type(network).__name__} matches `train.feature_opt.modules` {pattern!r}: '
                'name the modules whose outputs are to be compared.'
            )
        self._features: list[Tensor] = []
        for module in modules:
            module.register_forward_hook(self._catch)

    def _catch(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._features.append(output)

    def take(self) -> list[Tensor]:
        """The features of the forward pass since the last call, in float32."""
        features, self._features = self._features, []
        return [feature.float() for feature in features]
