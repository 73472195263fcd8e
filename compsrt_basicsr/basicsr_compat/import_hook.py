"""Fixes BasicSR whenever it is first imported, so that the order of imports does not matter.

`compsrt_basicsr` installs the hook when it is imported, and `register()` removes it. This module imports nothing heavy.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

_PACKAGE = __name__.partition('.')[0]
_DEPRECATED = (
    'Call `compsrt_basicsr.register()` before you import BasicSR: later versions register nothing by themselves.'
)


class BasicSRFinder:
    """Finds `basicsr` for the import system, and lets `import_fixed` execute it."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the specification of `basicsr` from the other finders, None for any other module."""
        if name != 'basicsr':
            return None
        others = (finder for finder in sys.meta_path if finder is not cls)
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            execute = functools.partial(import_fixed, spec.loader.exec_module)
            spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Installs the hook. Where BasicSR has been imported already, registers at once: the hook would come too late."""
    if 'basicsr' in sys.modules:
        _register()
    elif BasicSRFinder not in sys.meta_path:
        sys.meta_path.insert(0, BasicSRFinder)


def remove() -> None:
    """Removes the hook, if it is installed."""
    if BasicSRFinder in sys.meta_path:
        sys.meta_path.remove(BasicSRFinder)


def import_fixed(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Executes BasicSR between its two fixes: the module that torchvision lacks before it, the patches after it.

    If code outside this package imports BasicSR, our networks, losses and models are registered as well: scripts relied
    on that before `register()` existed.

    Args:
        execute: executes a module.
        module: `basicsr`, new and empty.
    """
    importer = _importer(sys._getframe(1))
    patches = importlib.import_module(f'{_PACKAGE}.basicsr_compat.patches')
    patches.import_basicsr(functools.partial(execute, module))
    if importer is not None and not _name(importer).startswith(f'{_PACKAGE}.'):
        place = importer.f_code.co_filename, importer.f_lineno, _name(importer)
        warnings.warn_explicit(_DEPRECATED, DeprecationWarning, *place)
        _register()


def _register() -> None:
    importlib.import_module(f'{_PACKAGE}.basicsr_compat.register').register()


def _importer(frame: FrameType | None) -> FrameType | None:
    """Returns the frame of the import statement, behind those of the import system."""
    while frame is not None and _name(frame).startswith('importlib'):
        frame = frame.f_back
    return frame


def _name(frame: FrameType) -> str:
    return frame.f_globals.get('__name__', '')
