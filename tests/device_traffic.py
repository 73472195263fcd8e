"""What a network would copy to and from a GPU, seen without one.

`on_gpu` puts a network on a GPU that does not exist: its tensors are fake, with shapes and a device but without values.
A value that is read raises an error. The gradient asks for a real GPU, so a training step runs on `meta` instead,
which has no values either.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device('meta')


class DeviceTraffic(TorchDispatchMode):
    """Lists the operators that take a tensor of the CPU to another device or back, with the line that called them.

    Numbers, which are tensors without dimensions, are passed along with an operator and do not count.

    Attributes:
        found: one text for each.
        reads: how many values were read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        result = func(*args, **(kwargs or {}))
        copies = func._opname in ('_to_copy', 'copy_')
        given = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and (x.ndim or copies)}
        made = {x.device.type for x in tree_leaves(result) if isinstance(x, Tensor)}
        there, back = 'cpu' in given and made - {'cpu'}, 'cpu' in made and given - {'cpu'}
        if there or back:
            ours = [frame for frame in traceback.extract_stack() if 'basicsr' in frame.filename]
            self.found.append(f'{func._opname} at {ours[-1].filename}:{ours[-1].lineno}' if ours else func._opname)
        return result


@contextmanager
def on_gpu(*networks: nn.Module) -> Iterator[torch.device]:
    """Puts networks on a GPU that does not exist; inside the context, tensors can be made there."""
    mode = FakeTensorMode()
    for module in (module for network in networks for module in network.modules()):
        for name, x in list(module._parameters.items()):
            if x is not None:
                module._parameters[name] = nn.Parameter(_fake(mode, x), requires_grad=x.requires_grad)
        for name, x in list(module._buffers.items()):
            if x is not None:
                module._buffers[name] = _fake(mode, x)
    with mode:
        yield torch.device('cuda', 0)


def _fake(mode: FakeTensorMode, x: Tensor) -> Tensor:
    return FakeTensor(mode, x.detach().to(META), 'cuda')


def without_autocast(monkeypatch: Any) -> None:
    """Lets code run on `meta`, which has no autocast."""
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())
