"""Times of networks, measured alternately."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import nn


@torch.no_grad()
def alternate(
    networks: Mapping[str, nn.Module], channels: int, size: int, device: str, rounds: int
) -> dict[str, list[float]]:
    """Times networks alternately, so that a change of the machine's speed affects all of them.

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
    times: dict[str, list[float]] = {mode: [] for mode in networks}
    for number in range(rounds + 1):
        for mode, network in networks.items():
            wait_for(device)
            start = time.perf_counter()
            network(image)
            wait_for(device)
            if number:
                times[mode].append(time.perf_counter() - start)
    return times


def wait_for(device: str | torch.device) -> None:
    """Waits until a device has done its work."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
