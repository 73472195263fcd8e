"""How many cores other programs leave free, measured between two moments."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from compsrt_basicsr.utils.control_groups import group_folders


class GroupUse(NamedTuple):
    """A control group with a limit of processor time, as containers have.

    Attributes:
        limit: in cores.
        used: seconds of processor time that all its processes have used.
    """

    limit: float
    used: float


class Moment(NamedTuple):
    """The use of the cores that this process may run on.

    Attributes:
        time: seconds of a steady clock.
        cores: their number.
        idle: seconds that they have been idle, added up; None where the system does not say.
        own: seconds of processor time of this process.
        load: programs that want a core, averaged over the last minute; None where the system does not say.
        groups: the control groups of this process that have a limit.
    """

    time: float
    cores: int
    idle: float | None
    own: float
    load: float | None
    groups: tuple[GroupUse, ...]


def moment(root: Path = Path('/')) -> Moment:
    """Returns the use of the cores until now.

    Args:
        root: folder that holds Linux's `proc` and `sys`.
    """
    mine = os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else None
    cores = len(mine) if mine else os.cpu_count() or 1
    idle = None if mine is None else _idle(root, mine)
    return Moment(time.monotonic(), cores, idle, time.process_time(), _load(), _groups(root))


def used_by_others(before: Moment, after: Moment) -> float:
    """Returns how many of the cores other programs used between two moments, at most all of them."""
    if before.idle is None or after.idle is None:
        used = after.load or 0.0
    else:
        used = after.cores - (after.idle - before.idle + _own(before, after)) / (after.time - before.time)
    return min(max(used, 0.0), float(after.cores))


def left_by_limits(before: Moment, after: Moment) -> float:
    """Returns how many cores the limits of control groups left to this process; infinity without limits."""
    if len(before.groups) != len(after.groups):  # moved to other groups meanwhile
        return min((group.limit for group in after.groups), default=float('inf'))
    seconds = after.time - before.time
    return min(
        (
            now.limit - max(now.used - then.used - _own(before, after), 0.0) / seconds
            for then, now in zip(before.groups, after.groups)
        ),
        default=float('inf'),
    )


def _own(before: Moment, after: Moment) -> float:
    return after.own - before.own


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # not on Windows, and not without /proc
        return None


def _idle(root: Path, cores: set[int]) -> float | None:
    """Returns the seconds that some cores have been idle since the machine started, waiting for disks included."""
    try:
        rows = [line.split() for line in (root / 'proc/stat').read_text().splitlines() if line.startswith('cpu')]
        ticks = [int(row[4]) + int(row[5]) for row in rows if row[0][3:].isdigit() and int(row[0][3:]) in cores]
    except (OSError, ValueError, IndexError):
        return None
    return sum(ticks) / os.sysconf('SC_CLK_TCK') if len(ticks) == len(cores) else None


def _groups(root: Path) -> tuple[GroupUse, ...]:
    folders = zip(group_folders('cpu', root), group_folders('cpuacct', root))
    found = [_second_version(folder) or _first_version(folder, account) for folder, account in folders]
    return tuple(group for group in found if group is not None)


def _second_version(folder: Path) -> GroupUse | None:
    try:
        quota, period = (folder / 'cpu.max').read_text().split()
        if quota == 'max':
            return None
        pairs = (line.split() for line in (folder / 'cpu.stat').read_text().splitlines())
        return GroupUse(int(quota) / int(period), int(dict(pairs)['usage_usec']) / 1e6)
    except (OSError, ValueError, KeyError):
        return None


def _first_version(folder: Path, account: Path) -> GroupUse | None:
    try:
        quota = int((folder / 'cpu.cfs_quota_us').read_text())
        if quota < 0:
            return None
        period = int((folder / 'cpu.cfs_period_us').read_text())
        return GroupUse(quota / period, int((account / 'cpuacct.usage').read_text()) / 1e9)
    except (OSError, ValueError):
        return None
