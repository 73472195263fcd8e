"""What Slurm says about a run, from its environment variables; its tools may be absent, as in containers."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

from compsrt_basicsr.errors import CompSRTError, plain

_LISTS = ('SLURM_STEP_NODELIST', 'SLURM_NODELIST', 'SLURM_JOB_NODELIST')
_PORT = 29500
_DEEPEST = 8  # brackets
_RANGE = re.compile('([0-9]+)-([0-9]+)')


def export_environment(port: int | None = None) -> None:
    """Sets the environment variables of torch.distributed from those of Slurm; a given MASTER_ADDR stays.

    Args:
        port: of the first node; None for MASTER_PORT, or 29500.

    Raises:
        CompSRTError: if Slurm's variables are missing or cannot be understood.
    """
    values = {
        'RANK': str(environment_int('SLURM_PROCID', 'slurm')),
        'WORLD_SIZE': str(environment_int('SLURM_NTASKS', 'slurm')),
        'LOCAL_RANK': os.environ.get('SLURM_LOCALID', '0'),
        'MASTER_ADDR': os.environ.get('MASTER_ADDR') or _first_node(),
        'MASTER_PORT': str(port or os.environ.get('MASTER_PORT') or _PORT),
    }
    os.environ.update(values)


def environment_int(name: str, launcher: str) -> int:
    """Returns a number from the environment.

    Raises:
        CompSRTError: if it is missing or no number.
    """
    try:
        return int(os.environ[name])
    except (KeyError, ValueError) as error:
        remedy = 'start the command with torchrun' if launcher == 'pytorch' else 'start the command with srun'
        raise CompSRTError(
            f'--launcher {launcher} needs the environment variable {name}: {remedy}, or leave --launcher out.'
        ) from error


def hosts(text: str) -> Iterator[str]:
    """Expands a list of hosts as Slurm writes it, such as `gpu[01-03,7],login,rack[1-2]n[0-1]`.

    Numbers keep their zeros; several brackets in a name give all combinations, and brackets may stand in brackets.

    Raises:
        ValueError: if it is no such list.
    """
    for item in _split(text):
        yield from _expand(item, 0)


def _first_node() -> str:
    for name in _LISTS:
        if text := os.environ.get(name):
            try:
                return next(hosts(text))
            except ValueError as error:
                raise CompSRTError(
                    f'${name} is `{plain(text, 100)}`, which is no list of hosts: set MASTER_ADDR to the host of the '
                    'first task.'
                ) from error
    if os.environ.get('SLURM_NNODES', '1') == '1':
        return 'localhost'
    raise CompSRTError('--launcher slurm finds no SLURM_NODELIST: set MASTER_ADDR to the host of the first task.')


def _split(text: str) -> list[str]:
    """Splits at the commas outside brackets."""
    items, depth, item = [], 0, ''
    for character in text:
        depth += (character == '[') - (character == ']')
        if not 0 <= depth <= _DEEPEST:
            raise ValueError('brackets')
        if character == ',' and depth == 0:
            items.append(item)
            item = ''
        else:
            item += character
    if depth or '' in (items := [*items, item]):
        raise ValueError('an open bracket, or nothing between commas')
    return items


def _expand(item: str, depth: int) -> Iterator[str]:
    """Expands a name with any number of brackets; inside brackets (depth > 0), a range of numbers too."""
    head, bracket, rest = item.partition('[')
    if not bracket:
        yield from _numbers(item) if depth else _name(item)
        return
    end = _closing(rest)
    inner, tail = rest[:end], rest[end + 1 :]
    choices = itertools.chain.from_iterable(_expand(part, depth + 1) for part in _split(inner))
    start = next(_name(head)) if head else ''
    for choice in choices:
        for ending in _expand(tail, 0) if tail else ('',):
            yield f'{start}{choice}{ending}'


def _numbers(text: str) -> Iterator[str]:
    """Expands `7` or `08-11`."""
    if text.isascii() and text.isdecimal():
        yield text
        return
    match = _RANGE.fullmatch(text)
    if match is None or len(match[2]) > 9 or int(match[1]) > int(match[2]):
        raise ValueError('no range of numbers')
    for number in range(int(match[1]), int(match[2]) + 1):
        yield f'{number:0{len(match[1])}d}'


def _name(text: str) -> Iterator[str]:
    if not re.fullmatch(r'[A-Za-z0-9._-]+', text):
        raise ValueError('no name of a host')
    yield text


def _closing(text: str) -> int:
    """Returns where the bracket ends that was opened before a text; `_split` has made sure that it does."""
    depth = 1
    for index, character in enumerate(text):
        depth += (character == '[') - (character == ']')
        if not depth:
            return index
    raise ValueError('an open bracket')
