"""Observation of quantizer inputs during a full-precision forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from compsrt_basicsr.quant.quantizer import Observer, quantizers, unseen


@contextmanager
def observing(network: nn.Module, observe: Observer = unseen) -> Iterator[None]:
    """Makes the network compute in full precision and eval mode and passes each quantizer's input to `observe`.

    Args:
        network: a quantized network.
        observe: called with a quantizer and its input, once per forward pass of the quantizer; if it returns
            True, the quantizer then quantizes.
    """
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
