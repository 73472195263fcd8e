"""Data sets of a few smooth images on a server of this machine, under the names of real ones or others."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from web_server import Server


def archive(count: int, side: int) -> bytes:
    """A zip of square images, the same at every call."""
    noise, stream = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as file:
        for number in range(count):
            small = Image.fromarray(noise.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            image = io.BytesIO()
            small.resize((side, side), Image.Resampling.BICUBIC).save(image, 'png')
            file.writestr(zipfile.ZipInfo(f'HR/{number}.png'), image.getvalue())
    return stream.getvalue()


def write_catalog(server: Server, file: Path, train: dict[str, tuple[int, int, int]], test: tuple[str, ...]) -> None:
    """Puts archives on a server and writes the catalog that lists them.

    Args:
        server: gets `NAME.zip` of each data set.
        file: the catalog.
        train: number and side of the images, and the side of the sub-images, by name.
        test: names of benchmarks of one image of 48x48.
    """
    sets = {name: ('train', *values) for name, values in train.items()} | dict.fromkeys(test, ('benchmark', 1, 48, 0))
    content = {'format': 1, 'archives': {}, 'datasets': {}}
    for name, (role, count, side, crop) in sets.items():
        server.files[f'{name}.zip'] = archive(count, side)
        content['archives'][f'{name}.zip'] = {'urls': [server.url(f'{name}.zip')], 'source': 'this test'}
        content['datasets'][name] = {
            'title': 'tiny',
            'role': role,
            'licence': 'free',
            'terms': 'https://example.org',
            'pictures': [{'archive': f'{name}.zip', 'members': 'HR/*.png', 'count': count}],
            'megapixels': 1,
            'crop': crop,
            'step': crop // 2,
        }
    file.write_text(yaml.safe_dump(content))
