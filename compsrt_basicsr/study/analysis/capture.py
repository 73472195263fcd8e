"""Both passes over all tensors of a network: its weights, and the activations that images cause."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.functional.transform import transform_matrix
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.study.analysis.measures import measures
from compsrt_basicsr.study.analysis.quantized_tensors import QuantizedTensor, weights
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import FirstPass, SecondPass
from compsrt_basicsr.utils.progress import SILENT, Progress

_WAITING = 8  # tasks that may hold a tensor in memory


@dataclass
class Meter:
    """One tensor under all transforms.

    Attributes:
        tensor: the tensor.
        skipped: why it cannot be analysed, as a sentence, or None.
        first, second: its passes by transform.
    """

    tensor: QuantizedTensor
    skipped: str | None = None
    first: dict[str, FirstPass] = field(default_factory=dict)
    second: dict[str, SecondPass] = field(default_factory=dict)

    def start_first(self, settings: AnalysisSettings) -> None:
        """Prepares the first pass."""
        for name in settings.transforms:
            matrix = None if name == 'none' else transform_matrix(name, self.tensor.order, settings.seed).float()
            self.first[name] = FirstPass(matrix)

    def start_second(self, settings: AnalysisSettings) -> None:
        """Prepares the second pass, or finds the reason why there is none."""
        for name, first in self.first.items():
            after = '' if name == 'none' else f' after the transform `{name}`'
            if not first.moments.count and first.finite:
                self.skipped = 'The network does not use its layer.'
            elif not first.finite:
                self.skipped = f'It holds NaN or infinite values{after}.'
            elif first.constant:
                self.skipped = f'All its values{after} are {first.lowest:.6g}.'
            if self.skipped:
                self.first.clear()
                self.second.clear()
                return
            seed = (settings.seed, zlib.crc32(self.tensor.name.encode()))
            self.second[name] = SecondPass(first, settings.sample, seed)


def measure(
    network: nn.Module,
    tensors: Sequence[QuantizedTensor],
    patches: Iterable[Tensor] | None,
    settings: AnalysisSettings,
    progress: Progress = SILENT,
) -> dict[str, dict[str, Any] | str]:
    """Measures all tensors.

    The network runs twice over the patches, one at a time. Between the runs only ranges, moments, histograms and
    samples are kept, about 60 kB for each tensor and transform.

    Args:
        network: a network of `quantizable_copy`; its quantizers only observe.
        tensors: its quantized tensors.
        patches: batches of images, the same at every iteration; None to measure the weights alone.
        settings: transforms, samples and seed.
        progress: shows the progress.

    Returns:
        For each tensor its measures by transform, or the reason why there are none.
    """
    meters = {t.name: Meter(t, t.skipped) for t in tensors if t.same_as is None}
    with _workers() as work:
        for label, start, passes in (
            ('range', Meter.start_first, lambda meter: meter.first),
            ('histogram', Meter.start_second, lambda meter: meter.second),
        ):
            for meter in meters.values():
                if meter.skipped is None:
                    start(meter, settings)
            _pass(network, meters, patches, passes, work, progress, label)
        found: dict[str, dict[str, Any] | str] = {name: {} for name in meters}
        for meter in progress.track(list(meters.values()), 'quantize', 'tensor'):
            if meter.skipped is None:
                tasks = {t: work.submit(measures, meter.first[t], meter.second[t], settings) for t in meter.first}
                found[meter.tensor.name] = {transform: task.result() for transform, task in tasks.items()}
            else:
                found[meter.tensor.name] = meter.skipped
    return {tensor.name: found[tensor.same_as or tensor.name] for tensor in tensors}


class _Work:
    """Runs tasks on other threads in the order given; `submit` blocks while too many are waiting."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._waiting: deque[Future] = deque()

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future:
        if len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(task, *arguments))
        return self._waiting[-1]

    def finish(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()


@contextmanager
def _workers() -> Iterator[_Work]:
    """Runs as many worker threads as torch uses; torch itself uses a single thread in each of them meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            yield _Work(pool)
    finally:
        torch.set_num_threads(threads)


def _pass(
    network: nn.Module,
    meters: dict[str, Meter],
    patches: Iterable[Tensor] | None,
    passes: Callable[[Meter], dict[str, FirstPass] | dict[str, SecondPass]],
    work: _Work,
    progress: Progress,
    label: str,
) -> None:
    """Feeds every tensor to its current pass."""
    under_way: set[str] = set()

    def finish() -> None:
        work.finish()
        under_way.clear()

    def take(name: str, tensor: Tensor) -> None:
        meter = meters.get(name)
        if meter is not None and passes(meter):
            if name in under_way:  # the layer is used twice
                finish()
            under_way.add(name)
            rows = meter.tensor.rows(tensor)
            for one in passes(meter).values():
                work.submit(one.add, rows)

    for name, weight in weights(network):
        take(name, weight)
    finish()
    if patches is None:
        return
    activations = {name for name, meter in meters.items() if meter.tensor.kind == 'activation'}

    def observe(quantizer: Quantizer, x: Tensor) -> None:
        if quantizer.name in activations:
            take(quantizer.name, x)

    found = quantizers(network)
    for name, quantizer in found.items():
        quantizer.name, quantizer.observer = name, observe
    try:
        with torch.no_grad():
            for patch in progress.track(patches, label, 'patch'):
                network(patch)
                finish()
    finally:
        for quantizer in found.values():
            quantizer.observer = None
