"""Samples that depend on their place in the run alone, so that a resumed run sees those of an unbroken one."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset

Place = tuple[int, int, int]


class ResumableSampler(EnlargedSampler):
    """BasicSR's sampler; yields (epoch, position, index) and skips the samples of a resumed epoch already seen.

    The order of an epoch is BasicSR's. Iterating consumes nothing: an epoch can be started any number of times.
    """

    _skip: tuple[int, int] = (-1, 0)

    def skip(self, epoch: int, count: int) -> None:
        """Skips the first `count` samples of this rank whenever `epoch` is iterated."""
        self._skip = (epoch, count)

    def __iter__(self) -> Iterator[Place]:
        epoch, count = self._skip
        first = count if epoch == self.epoch else 0
        places = [(self.epoch, position, index) for position, index in enumerate(super().__iter__())]
        return iter(places[first:])


class SeededDataset(Dataset[Any]):
    """A data set whose random draws depend on seed, rank, epoch and position, not on the worker.

    Args:
        dataset: BasicSR's data set.
        seed: The run's `manual_seed`.
        rank: Rank of this process.
    """

    def __init__(self, dataset: Any, seed: int, rank: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.rank = rank

    @property
    def opt(self) -> dict[str, Any]:
        """The options of the data set."""
        return self.dataset.opt

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place | int) -> Any:
        """Returns the sample at (epoch, position, index); a bare index stands for (0, index, index)."""
        epoch, position, index = place if isinstance(place, tuple) else (0, place, place)
        with seeded(sample_seed(self.seed, self.rank, epoch, position)):
            return self.dataset[index]


def sample_seed(seed: int, rank: int, epoch: int, position: int) -> int:
    """Returns a 63-bit seed, the same in every process and Python version."""
    text = f'{seed}:{rank}:{epoch}:{position}'.encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), 'little') >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds Python, NumPy and torch (CPU) inside the block and restores their states after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
