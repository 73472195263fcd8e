"""Turn full-precision BasicSR weights into the fp16 safetensors file that the package ships.

    python scripts/pack_teacher.py swinir_light_x2_house.pth compsrt_basicsr/hub/swinir_light_x2_house.safetensors

Prints size, SHA-256 of both files and the largest rounding error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from compsrt_basicsr.archs.state_dicts import without_recomputable_buffers
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.hub.checksum import sha256_of
from compsrt_basicsr.utils.atomic_write import atomic_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path)
    parser.add_argument('target', type=Path)
    parser.add_argument('--key', default='params', help='entry of the .pth: params, or params_ema for the average')
    args = parser.parse_args()
    state = without_recomputable_buffers(read_state(args.source, args.key))
    half = {key: value.to(torch.float16).contiguous() for key, value in state.items()}
    error = max((half[key].float() - state[key]).abs().max().item() for key in state)
    with atomic_path(args.target) as temporary:
        save_file(half, temporary, metadata={'source_sha256': sha256_of(args.source)})
    print(f'{args.target}: {args.target.stat().st_size:,} bytes, {sum(v.numel() for v in half.values()):,} parameters')
    print(f'SHA-256 {sha256_of(args.target)} (source {sha256_of(args.source)}), largest rounding error {error:.2g}')


if __name__ == '__main__':
    main()
