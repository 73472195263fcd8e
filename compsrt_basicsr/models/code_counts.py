"""Counting the codes that the quantizers of a run use, for logs and results."""

from __future__ import annotations

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from compsrt_basicsr.quant.code_usage import CodeUsage, counting_codes, summarize
from compsrt_basicsr.utils.text import counted


@torch.no_grad()
def codes_used_on(network: nn.Module, lq: Tensor) -> dict[str, float]:
    """Returns the totals of `summarize` for one batch (B, C, H, W); the network's mode is restored."""
    was_training = network.training
    network.eval()  # counting must draw no random numbers
    with counting_codes(network) as counts:
        network(lq)
    network.train(was_training)
    return summarize(counts)


def report_codes(counts: dict[str, CodeUsage], place: str) -> dict[str, float]:
    """Logs and returns the totals of `summarize`; empty where nothing was counted.

    Args:
        counts: the codes of each quantizer.
        place: what they were counted on, for the log.
    """
    if not counts:
        return {}
    totals = summarize(counts)
    get_root_logger().info(
        f'Codes used on {place}: at most {totals["levels_max"]:.0f}; '
        f'{totals["levels_over"]:.0f} of {counted(len(counts), "quantizer")} used more than 2^b.'
    )
    return totals
