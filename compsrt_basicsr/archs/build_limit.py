"""A limit on what a network may allocate while it is built from arguments that are not trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from compsrt_basicsr.errors import CompSRTError

_OPERATIONS, _PER_NAME, _PER_NUMBER = 2**12, 32, 0.25  # SwinIR needs 8 for each name; ECBSR fills kernels one by one
_FLOAT64 = 8  # only the matrices of transforms are of float64: they are few and small, but slow to make


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

    Raises:
        CompSRTError: if an operation exceeds the limit.
    """

    def __init__(self, stored: Stored) -> None:
        super().__init__()
        self.created = 8 * stored.numbers + 2**22
        self.single = 8 * stored.numbers + 2**24
        self.sum = 64 * stored.numbers + 2**27
        self.operations = _OPERATIONS + _PER_NAME * stored.names + int(_PER_NUMBER * stored.plain)

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
            size = _requested(args) * (_FLOAT64 if kwargs.get('dtype') == torch.float64 else 1)
            self.created -= size
        if size > self.single or self.sum < 0 or self.created < 0 or self.operations < 0:
            raise CompSRTError('The recorded arguments ask for a network far larger than the file: it is damaged.')
        return func(*args, **kwargs)


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def _requested(args: tuple[Any, ...]) -> int:
    """Returns the elements that a factory function makes: the product of its size, or its number of steps."""
    sizes = [math.prod(arg) for arg in args if isinstance(arg, (list, tuple, torch.Size)) and _whole(arg)]
    return max([*sizes, *(int(abs(arg)) for arg in args if isinstance(arg, (int, float)) and math.isfinite(arg)), 0])


def _largest_result(func: Any, tensors: list[Tensor], args: tuple[Any, ...]) -> int:
    """Returns the elements of the result: exact for element-wise operations and repetition, a guess for products."""
    sizes = [math.prod(arg) for arg in args if isinstance(arg, (list, tuple)) and arg and _whole(arg)]
    if func is torch.ops.aten.repeat.default:
        return tensors[0].numel() * sizes[0]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) == 1:
        return max([tensors[0].numel(), *sizes])
    try:
        size = math.prod(np.broadcast_shapes(*shapes))  # torch's imports sympy
    except ValueError:
        size = max(tensor.numel() for tensor in tensors)
    return max([size, *sizes])


def _whole(numbers: Any) -> bool:
    return all(isinstance(number, int) for number in numbers)
