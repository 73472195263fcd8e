"""Blocks of YAML that option files share, with `$placeholders`."""

from __future__ import annotations

from string import Template

SWINIR = """\
  upscale: $scale
  in_chans: 3
  img_size: 64
  window_size: 8
  img_range: 1.
  depths: [6, 6, 6, 6]
  embed_dim: 60
  num_heads: [6, 6, 6, 6]
  mlp_ratio: 2
  upsampler: pixelshuffledirect
  resi_connection: 1conv
"""

PAIRED_LMDB = """\
  $phase:
    name: $dataset
    type: PairedImageDataset
    dataroot_gt: datasets/$dataset/x$scale/${dataset}_HR.lmdb
    dataroot_lq: datasets/$dataset/x$scale/${dataset}_LRx$scale.lmdb
    io_backend:
      type: lmdb
"""

VAL_SETTINGS = """\
  save_img: false
$suffix\
  pad: symmetric  # mirrored with the edge pixel repeated, SwinIR's own protocol
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: $scale
      test_y_channel: true
    ssim:
      type: calculate_ssim
      crop_border: $scale
      test_y_channel: true
"""
WATCHING = f"""\
val:
  val_freq: 100
{VAL_SETTINGS}
logger:
  print_freq: 100
  save_checkpoint_freq: 100
  use_tb_logger: true
"""  # of a distillation


SCHEMA = """\
# yaml-language-server: $$$$schema=$schema
"""


def fill(template: str, values: dict[str, object]) -> str:
    """Substitute `values`, whose texts may hold placeholders of their own (one level)."""
    return Template(Template(template).substitute(values)).substitute(values)


def dataset_blocks(datasets: dict[str, str], scale: int) -> str:
    """Render `datasets`, which maps a phase such as `test_1` to a set's name, one paragraph each."""
    blocks = (fill(PAIRED_LMDB, {'phase': phase, 'dataset': name, 'scale': scale}) for phase, name in datasets.items())
    return '\n'.join(blocks)
