"""A limit on what a network may allocate while it is built from arguments that are not trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from compsrt_basicsr.errors import CompSRTError

_OPERATIONS, _PER_NAME, _PER_NUMBER = 2**12, 32, 0.25  # SwinIR needs 8 for each name; ECBSR fills kernels one by one
_FLOAT64 = 8  # only the matrices of transforms are of float64: they are few and small, but slow to make


_PER_STORED_NAME, _FREE_NAMES = 4, 64  # of the branches that SPAN trains, a file has one
_names_left: ContextVar[int | None] = ContextVar('names_left', default=None)


@dataclass(frozen=True)
class Stored:
    """How much a file holds of a network; a network that needs much more is not built.

    Attributes:
        names: named tensors.
        numbers: in all of them.
        plain: those that are stored as they are; a code can take next to nothing.
    """

    names: int
    numbers: int
    plain: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Stored:
        """Returns what a state dict holds."""
        numbers = sum(value.numel() for value in state.values())
        return cls(len(state), numbers, numbers)


class BuildLimit(TorchDispatchMode):
    """Refuses, inside this context, operations that ask for too many elements, before they run.

    A network of P numbers may create 8 P + 2^22 elements (its parameters, in float32 and while they are initialised).
    Everything else that it computes, such as attention masks, may have 8 P + 2^24 elements at a time and 64 P + 2^27 in
    sum. The constants leave room for SwinIR-light at img_size 192. An element of float64 counts as 8. A network of N
    names may take 32 N + 2^12 operations, and one more for each 4 plain numbers.

    Args:
        stored: what the file holds.
        factor: of the sum, for networks known to compute more.

    Raises:
        CompSRTError: if an operation exceeds the limit.
    """

    def __init__(self, stored: Stored, factor: int = 1) -> None:
        super().__init__()
        self._names = stored.names
        self.created = 8 * stored.numbers + 2**22
        self.single = 8 * stored.numbers + 2**24
        self.sum = factor * (64 * stored.numbers + 2**27)
        self.operations = _OPERATIONS + _PER_NAME * stored.names + int(_PER_NUMBER * stored.plain)

    def __enter__(self) -> BuildLimit:
        """Starts to limit."""
        self._outer = _names_left.set(_PER_STORED_NAME * self._names + _FREE_NAMES)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        """Ends it."""
        _names_left.reset(self._outer)
        super().__exit__(*raised)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keeps torch from importing TorchDynamo, which takes seconds: nothing is compiled here."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs one operation, or refuses it."""
        kwargs = kwargs or {}
        tensors = _tensors((*args, *kwargs.values()) if kwargs else args)
        self.operations -= 1
        if tensors:
            size = _largest_result(func, tensors, args) * (_FLOAT64 if tensors[0].dtype == torch.float64 else 1)
            self.sum -= size
            if func is torch.ops.aten.unbind.int:  # an object for each
                self.operations -= max(tensors[0].shape)
        else:
            size = _requested(func, args) * (_FLOAT64 if kwargs.get('dtype') == torch.float64 else 1)
            self.created -= size
        if size > self.single or self.sum < 0 or self.created < 0 or self.operations < 0:
            raise CompSRTError('The recorded arguments ask for a network far larger than the file: it is damaged.')
        return func(*args, **kwargs)


def check_names(network: nn.Module) -> None:
    """Checks, inside a `BuildLimit`, that a network has not many more named tensors than the file.

    Raises:
        CompSRTError: if it has: what reads its names may take time that grows with their square.
    """
    most = _names_left.get()
    if most is not None and len(network.state_dict()) > most:
        raise CompSRTError('The recorded arguments ask for more layers than the file has: it is damaged.')


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def _requested(func: Any, args: tuple[Any, ...]) -> int:
    """Returns the elements that a factory function makes: the product of its size, or its number of steps."""
    if func in (torch.ops.aten.eye.default, torch.ops.aten.eye.m):
        return int(args[0]) * int(args[-1])
    sizes = [math.prod(arg) for arg in args if isinstance(arg, (list, tuple, torch.Size)) and _whole(arg)]
    return max([*sizes, *(int(abs(arg)) for arg in args if isinstance(arg, (int, float)) and math.isfinite(arg)), 0])


def _largest_result(func: Any, tensors: list[Tensor], args: tuple[Any, ...]) -> int:
    """Returns the elements of the result: exact for element-wise operations and repetition, a guess for products."""
    sizes = [math.prod(arg) for arg in args if isinstance(arg, (list, tuple)) and arg and _whole(arg)]
    if func is torch.ops.aten.repeat.default:
        return tensors[0].numel() * sizes[0]
    if func is torch.ops.aten.split_with_sizes.default:
        return tensors[0].numel()
    if func is torch.ops.aten.kron.default:
        return tensors[0].numel() * tensors[1].numel()
    if func is torch.ops.aten.cat.default:
        return sum(tensor.numel() for tensor in tensors)
    if func in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
        return tensors[0].shape[:-1].numel() * tensors[1].shape[-1]
    if func is torch.ops.aten.convolution.default:
        return _convolved(tensors[0], tensors[1], *args[3:])
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) == 1:
        return max([tensors[0].numel(), *sizes])
    try:
        size = math.prod(np.broadcast_shapes(*shapes))  # torch's imports sympy
    except ValueError:
        size = max(tensor.numel() for tensor in tensors)
    return max([size, *sizes])


def _convolved(
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    added: list[int],
    groups: int,
) -> int:
    """Returns the elements of the result of a convolution."""
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, added)
    if transposed:
        spatial = [(n - 1) * s - 2 * p + d * (k - 1) + a + 1 for n, k, s, p, d, a in sides]
    else:
        spatial = [(n + 2 * p - d * (k - 1) - 1) // max(s, 1) + 1 for n, k, s, p, d, _ in sides]
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return int(x.shape[0] * channels * math.prod(max(side, 0) for side in spatial))


def _whole(numbers: Any) -> bool:
    return all(isinstance(number, int) for number in numbers)
