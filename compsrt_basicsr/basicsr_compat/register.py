"""The one call that makes BasicSR ready: fixed, and with our networks, losses and models in its registries."""

from __future__ import annotations

import importlib

from compsrt_basicsr.basicsr_compat import import_hook, patches

_REGISTERED = ('archs', 'losses', 'models')  # by name: these layers lie above this one


def register() -> None:
    """Fixes BasicSR 1.4.2 for this machine and registers the networks, losses and models of this package in it.

    Call it before you import BasicSR in a script of your own; the commands do. A second call changes nothing. With

    ```python
    import compsrt_basicsr

    compsrt_basicsr.register()
    from basicsr.train import train_pipeline

    train_pipeline('.')  # reads -opt and the other flags from the command line
    ```

    a script trains as `basicsr train` does.

    Raises:
        ModuleNotFoundError: if BasicSR is not installed.
    """
    patches.import_basicsr()
    for part in _REGISTERED:
        importlib.import_module(f'compsrt_basicsr.{part}')
    import_hook.remove()
