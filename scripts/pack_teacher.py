"""Turns full-precision BasicSR weights into the fp16 safetensors file that the package ships.

    python scripts/pack_teacher.py swinir_light_x2_house.pth compsrt_basicsr/hub/swinir_light_x2_house.safetensors

Prints size, SHA-256 of both files and the largest rounding error.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from compsrt_basicsr.archs.state_dicts import without_recomputable_buffers
from compsrt_basicsr.checkpoints.read import read_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path)
    parser.add_argument('target', type=Path)
    args = parser.parse_args()
    state = without_recomputable_buffers(read_state(args.source))
    half = {key: value.to(torch.float16).contiguous() for key, value in state.items()}
    error = max((half[key].float() - state[key]).abs().max().item() for key in state)
    save_file(half, args.target, metadata={'source_sha256': _sha256(args.source)})
    print(f'{args.target}: {args.target.stat().st_size:,} bytes, {sum(v.numel() for v in half.values()):,} parameters')
    print(f'SHA-256 {_sha256(args.target)} (source {_sha256(args.source)}), largest rounding error {error:.2g}')


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == '__main__':
    main()
