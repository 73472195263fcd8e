"""Times of networks and other functions, measured alternately, so that a change of the machine's speed affects all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn


@torch.no_grad()
def alternate(
    networks: Mapping[str, nn.Module], channels: int, size: int, device: str, rounds: int
) -> dict[str, list[float]]:
    """Times networks alternately.

    Args:
        networks: by name, in eval mode.
        channels: of the image.
        size: side of the image in pixels.
        device: 'cpu', 'cuda' and so on.
        rounds: number of repetitions after a warm-up.

    Returns:
        Seconds of each round, by name.
    """
    image = torch.rand(1, channels, size, size, device=device)
    networks = {mode: network.to(device) for mode, network in networks.items()}

    def call(network: nn.Module) -> None:
        wait_for(device)
        network(image)
        wait_for(device)

    return alternate_calls({mode: partial(call, network) for mode, network in networks.items()}, rounds)


def alternate_calls(
    functions: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Times functions alternately.

    Args:
        functions: by name.
        rounds: number of repetitions after a warm-up.
        clock: returns seconds.

    Returns:
        Seconds of each round, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = clock()
            function()
            if number:
                times[name].append(clock() - start)
    return times


def wait_for(device: str | torch.device) -> None:
    """Waits until a device has done its work."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
