"""The module that torchvision 0.17 removed and BasicSR 1.4.2 still imports."""

from __future__ import annotations

import importlib.util
import sys
import types

NAME = 'torchvision.transforms.functional_tensor'


def provide_functional_tensor() -> None:
    """Installs a stand-in for `torchvision.transforms.functional_tensor` if torchvision has none.

    BasicSR uses one function of it, `rgb_to_grayscale`. Spawned workers import this package to unpickle the data set,
    and so get the stand-in too.
    """
    if NAME in sys.modules or importlib.util.find_spec(NAME) is not None:
        return
    from torchvision.transforms import functional

    module = types.ModuleType(NAME, 'Stand-in by compsrt_basicsr for BasicSR 1.4.2.')
    vars(module)['rgb_to_grayscale'] = functional.rgb_to_grayscale
    sys.modules[NAME] = module
