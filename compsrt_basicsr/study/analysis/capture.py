"""All tensors of a network through both passes: weights as they are, activations as pictures give them."""

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
from compsrt_basicsr.study.analysis.quantized_tensors import Site, weights
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import FirstPass, SecondPass
from compsrt_basicsr.utils.progress import SILENT, Progress

_WAITING = 8  # pieces of work that hold their tensor in memory


@dataclass
class Meter:
    """One tensor under all transforms.

    Attributes:
        site: which tensor.
        fault: why it cannot be analysed, as a sentence, or None.
        first, second: what its passes have found, by transform.
    """

    site: Site
    fault: str | None = None
    first: dict[str, FirstPass] = field(default_factory=dict)
    second: dict[str, SecondPass] = field(default_factory=dict)

    def start_first(self, settings: AnalysisSettings) -> None:
        """Makes ready for the first pass."""
        for name in settings.transforms:
            matrix = None if name == 'none' else transform_matrix(name, self.site.order, settings.seed).float()
            self.first[name] = FirstPass(matrix)

    def start_second(self, settings: AnalysisSettings) -> None:
        """Makes ready for the second pass, or finds why there can be none."""
        for name, first in self.first.items():
            after = '' if name == 'none' else f' after the transform `{name}`'
            if not first.moments.count and first.finite:
                self.fault = 'Nothing came through it: the network does not use its layer.'
            elif not first.finite:
                self.fault = f'It holds NaN or infinite values{after}.'
            elif first.constant:
                self.fault = f'All its values{after} are {first.lowest:.6g}.'
            if self.fault:
                self.first.clear()
                self.second.clear()
                return
            seed = (settings.seed, zlib.crc32(self.site.name.encode()))
            self.second[name] = SecondPass(first, settings.sample, seed)


def measure(
    network: nn.Module,
    sites: Sequence[Site],
    patches: Iterable[Tensor] | None,
    settings: AnalysisSettings,
    progress: Progress = SILENT,
) -> dict[str, dict[str, Any] | str]:
    """Measures all tensors.

    Pictures go through the network one at a time, twice; in between nothing of them is kept but ranges, moments,
    histograms and samples, about 60 kB for each tensor and transform.

    Args:
        network: from `quantizable_copy`, whose quantizers only look on.
        sites: its tensors.
        patches: batches of pictures, the same at every iteration; None for weights alone.
        settings: transforms, samples and seed.
        progress: display of the work.

    Returns:
        By tensor its measures by transform, or the sentence why there are none.
    """
    meters = {site.name: Meter(site, site.fault) for site in sites if site.same_as is None}
    with _workers() as work:
        for label, start, passes in (
            ('range', Meter.start_first, lambda meter: meter.first),
            ('histogram', Meter.start_second, lambda meter: meter.second),
        ):
            for meter in meters.values():
                if meter.fault is None:
                    start(meter, settings)
            _pass(network, meters, patches, passes, work, label, progress)
        found: dict[str, dict[str, Any] | str] = {name: {} for name in meters}
        for meter in progress.track(list(meters.values()), 'quantize', 'tensor'):
            if meter.fault is None:
                jobs = {t: work.submit(measures, meter.first[t], meter.second[t], settings) for t in meter.first}
                found[meter.site.name] = {transform: job.result() for transform, job in jobs.items()}
            else:
                found[meter.site.name] = meter.fault
    return {site.name: found[site.same_as or site.name] for site in sites}


class _Work:
    """Runs pieces of work on other threads, in the order given, and holds back who brings too many."""

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
    """As many threads as torch uses, each alone with its work; torch uses one meanwhile, so that none waits."""
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
    label: str,
    progress: Progress,
) -> None:
    """Gives every tensor to its present pass, one piece after another."""
    under_way: set[str] = set()

    def finish() -> None:
        work.finish()
        under_way.clear()

    def take(name: str, tensor: Tensor) -> None:
        meter = meters.get(name)
        if meter is not None and passes(meter):
            if name in under_way:  # a layer that is used twice
                finish()
            under_way.add(name)
            rows = meter.site.rows(tensor)
            for one in passes(meter).values():
                work.submit(one.add, rows)

    for name, weight in weights(network):
        take(name, weight)
    finish()
    if patches is None:
        return
    activations = {name for name, meter in meters.items() if meter.site.kind == 'activation'}

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
