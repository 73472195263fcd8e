"""The section `train.prune_schedule`: pruning that grows with training."""

from __future__ import annotations

from pydantic import Field, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError


class PruneSchedule(Options):
    """The section `train.prune_schedule`: pruning grows with training (Zhu and Gupta, arXiv 1710.01878).

    Raises:
        CompSRTError: when built with values that do not fit; the message lists every error.
    """

    begin: int = Field(0, ge=0, le=10**9, description='Iteration from which the pruned share grows.')
    end: int = Field(
        1000, ge=1, le=10**9, description='Iteration that reaches `quant.prune_ratio`, at most `total_iter`.'
    )
    frequency: int = Field(100, ge=1, le=10**9, description='Iterations between two new sets of masks.')

    @model_validator(mode='after')
    def _check_order(self) -> PruneSchedule:
        if self.begin >= self.end:
            raise ValueError(f'`begin` {self.begin} must come before `end` {self.end}.')
        return self

    def check(self, config: QuantConfig, total_iter: float) -> None:
        """Compares the schedule with the rest of the run.

        Raises:
            CompSRTError: nothing is pruned, the pattern cannot grow, or training ends before the schedule.
        """
        if not config.prunes:
            raise CompSRTError('there is nothing to schedule: give `network_g.quant.prune_ratio`, or leave it out.')
        if config.n_of_m is not None:
            raise CompSRTError(f'the pattern {config.prune_pattern} prunes all at once: leave the schedule out.')
        if self.end > total_iter:
            raise CompSRTError(
                f'`end` {self.end} is beyond `train.total_iter` {total_iter:g}: `prune_ratio` would not be reached.'
            )

    def due(self, iteration: int) -> bool:
        """Tells whether an iteration gets new masks."""
        on_step = (iteration - self.begin) % self.frequency == 0
        return iteration == self.end or (self.begin <= iteration < self.end and on_step)

    def ratio(self, target: float, iteration: int) -> float:
        """Returns the share that is pruned at an iteration."""
        return scheduled_ratio(target, self.begin, self.end, self.frequency, iteration)


def scheduled_ratio(target: float, begin: int, end: int, frequency: int, iteration: int) -> float:
    """Returns the pruned share at an iteration of the cubic schedule of Zhu and Gupta (arXiv 1710.01878), from 0 to p.

    p_t = p (1 - (1 - (t - begin) / (end - begin))^3) at t = begin, begin + frequency, ...; constant in between, 0
    before `begin`, and p from `end` on.

    Args:
        target: p.
        begin: First iteration of the schedule.
        end: Its last iteration, after `begin`.
        frequency: Iterations between two steps.
        iteration: t.
    """
    if iteration >= end:
        return target
    if iteration < begin:
        return 0.0
    step = (iteration - begin) // frequency * frequency
    return target * (1 - (1 - step / (end - begin)) ** 3)
