"""The control groups of Linux, with which containers limit processor time and memory."""

from __future__ import annotations

import os
from pathlib import Path


def group_folders(controller: str, root: Path = Path('/')) -> list[Path]:
    """Returns where the files of this process's control groups are: its own group and those above it.

    Of both versions; whether a folder or a file in it exists is for the reader to find out. In a container, only the
    topmost folder may.

    Args:
        controller: what the first version has its own folders for, such as 'cpu' or 'memory'.
        root: folder that holds Linux's `proc` and `sys`.
    """
    try:
        lines = os.fsdecode((root / 'proc/self/cgroup').read_bytes()).splitlines()
    except OSError:
        return []
    mount = root / 'sys/fs/cgroup'
    found = []
    for line in lines:
        _, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if not controllers or controller in controllers.split(','):
            folder = Path(path.lstrip('/'))
            base = mount / controller if controllers else mount
            found += [base / part for part in dict.fromkeys([folder, *folder.parents])]
    return found
