"""Files that are damaged or made to do harm: changes of a state dict and of a record, and what a load may cost.

    python tests/archs/hostile_files.py [ARCHITECTURE ...]

tries all of them on all architectures, each in a process of its own, and prints those that are not refused in a
sentence, do not run, or take too much time or memory. It takes an hour; the tests try a few.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import compsrt_basicsr

compsrt_basicsr.register()

from spandrel_networks import LARGE, NETWORKS, built  # noqa: E402

from compsrt_basicsr.archs.build_limit import Stored  # noqa: E402
from compsrt_basicsr.archs.rebuild import check_run, rebuild  # noqa: E402
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork, load_spandrel  # noqa: E402
from compsrt_basicsr.errors import CompSRTError  # noqa: E402
from compsrt_basicsr.quant.observation import observing  # noqa: E402

State = dict[str, Tensor]
ABSURD = (0, -3, 2.5, 'x', 257, 2**14)
SECONDS, MEBIBYTES = 20, 1024  # of the processor, and of memory beyond the start


def _chosen(state: State, count: int = 3) -> list[str]:
    """Returns some names: the first, the last, those between."""
    names = [name for name, value in state.items() if value.ndim > 1] or list(state)
    return [names[round(i * (len(names) - 1) / max(count - 1, 1))] for i in range(count)]


def far_index(state: State) -> Iterator[State]:
    """A layer with a number that no network has."""
    for name in _chosen(state):
        for index in (999, 10**6, 10**30):
            if (other := re.sub(r'\.\d+\.', f'.{index}.', name)) != name:
                yield {**state, other: state[name]}


def expanded(state: State) -> Iterator[State]:
    """A tensor of a few bytes with a huge shape."""
    for name in _chosen(state):
        value = state[name]
        yield {**state, name: torch.zeros(1).expand(2**20, *value.shape[1:])}
        yield {**state, name: torch.zeros(1).expand(*value.shape[:-1], 2**16)}


def reshaped(state: State) -> Iterator[State]:
    """Empty tensors, and tensors of other dimensions."""
    for name in _chosen(state):
        value = state[name]
        yield {**state, name: value[:0]}
        yield {**state, name: value.flatten()}
        yield {**state, name: value.sum()}
        yield {**state, name: value[None]}
        yield {**state, name: torch.cat([value] * 7)}


def other_types(state: State) -> Iterator[State]:
    """Weights of types that no weights have."""
    for kind in (torch.bool, torch.int64, torch.complex64, torch.float16):
        yield {name: value.to(kind) for name, value in state.items()}
    (name, *_) = _chosen(state)
    yield {**state, name: 'x'}  # type: ignore[dict-item]


def extreme_values(state: State) -> Iterator[State]:
    """Numbers beyond all bounds, also in buffers that a network reads its arguments from."""
    for number in (float('nan'), 1e30, -1.0):
        small = {name: value for name, value in state.items() if value.ndim < 2 and value.is_floating_point()}
        yield {**state, **{name: torch.full_like(value, number) for name, value in small.items()}}


def other_names(state: State) -> Iterator[State]:
    """Names that are missing or should not be there."""
    for name in _chosen(state):
        yield {other: value for other, value in state.items() if other != name}
    yield {**state, 'surplus.weight': torch.zeros(3, 3)}
    yield {f'a.b.{name}': value for name, value in state.items()}
    yield dict(list(state.items())[: len(state) // 2])


CHANGES: dict[str, Callable[[State], Iterator[State]]] = {
    change.__name__: change for change in (far_index, expanded, reshaped, other_types, extreme_values, other_names)
}


def absurd(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the arguments with one of them out of any sense."""
    found = []
    for name, value in arguments.items():
        for wrong in ABSURD:
            found.append({**arguments, name: [wrong] * len(value) if isinstance(value, list) else wrong})
        if isinstance(value, list) and value:
            found.append({**arguments, name: value * 200})
    return found


def record(network: SpandrelNetwork, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of a packed file."""
    base = {'type': 'spandrel', 'arch': network.arch, 'args': arguments}
    structure: dict[str, Any] = {'products': {}, 'folds': [], 'unused': []}
    return {'arch': 'CompSRTNet', 'args': {'base': base, 'structure': structure}, 'quant': {'quantize_convs': True}}


def record_outcome(wanted: dict[str, Any], stored: Stored) -> str:
    """Builds the network of a record, and runs it without its quantizers; see `_bounded`."""

    def load() -> None:
        network = rebuild(wanted, stored)
        with observing(network, lambda quantizer, x: None):
            check_run(network, wanted)

    return _bounded(load)


def outcome(state: State) -> str:
    """Loads weights; see `_bounded`."""
    return _bounded(lambda: load_spandrel(state))


def _bounded(load: Callable[[], Any]) -> str:
    """Returns 'runs', or the one sentence that refuses a file.

    Raises:
        AssertionError: if it is no sentence, or costs too much.
    """
    start, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = 'runs'
    try:
        load()
    except CompSRTError as error:
        found = str(error)
    assert '\n' not in found and len(found) < 1000 and found.isprintable(), found
    seconds, used = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert seconds < SECONDS and used < MEBIBYTES * 2**10, f'{seconds:.0f} s, {used / 2**10:.0f} MiB: {found}'
    return found


def _alone(load: Callable[[], str]) -> str:
    """Returns the outcome in a process of its own."""
    read, write = os.pipe()
    if not (child := os.fork()):
        signal.alarm(3 * SECONDS)
        try:
            text = load()
        except BaseException as error:
            text = f'! {type(error).__name__}: {error}'
        os.write(write, text.encode()[:2000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, 'rb') as stream:
        text = stream.read().decode(errors='replace')
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return text or f'! ended with status {status}'


def main(chosen: list[str]) -> None:
    """Tries all changes on the architectures."""
    torch.set_num_threads(1)
    for key in chosen or [key for key in NETWORKS if key not in LARGE]:
        network = built(key)
        state, stored, ran = dict(network.model.state_dict()), Stored.of(network.state_dict()), 0
        cases = [
            (f'{name} {number}', partial(outcome, changed))
            for name, change in CHANGES.items()
            for number, changed in enumerate(change(state))
        ]
        for arguments in absurd(network.arguments):
            changes = {name: value for name, value in arguments.items() if value != network.arguments[name]}
            cases.append((f'{changes!s:.100}', partial(record_outcome, record(network, arguments), stored)))
        for name, load in cases:
            text = _alone(load)
            ran += text == 'runs'
            if text.startswith('!'):
                print(f'{key} {name}: {text[:300]}', flush=True)
        print(f'{key}: {ran} of {len(cases)} run', flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
