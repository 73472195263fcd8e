"""A look at what quantizers see, while they let it pass in full precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from compsrt_basicsr.quant.quantizer import Quantizer, quantizers


@contextmanager
def observing(network: nn.Module, observe: Callable[[Quantizer, Tensor], None]) -> Iterator[None]:
    """Inside the context the network computes in full precision, in eval mode, and shows each quantizer's input."""
    found = quantizers(network)
    training = network.training
    try:
        network.eval()
        for name, quantizer in found.items():
            quantizer.name, quantizer.observer = name, observe
        yield
    finally:
        network.train(training)
        for quantizer in found.values():
            quantizer.observer = None
