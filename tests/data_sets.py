"""Tiny data sets on a web server of this machine, and the catalog that lists them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

# Two training sets in one joined, and two benchmarks from one archive; the zip has checksums, the tar has none.
CATALOG = """
format: 1
archives:
  big.zip: {{urls: [{url}big.zip], size: {big_size}, sha256: {big_sha256}}}
  more.tar: {{urls: [{url}more.tar], about: 20000, md5: {more_md5}}}
  bench.tar.gz: {{urls: [{url}bench.tar.gz]}}
  secret.zip: {{urls: [{url}secret.zip]}}
  asked.zip: {{}}
datasets:
  Big:
    {common}
    role: train
    pictures: [{{archive: big.zip, members: big/*.png, count: 3}}]
    megapixels: 0.01
    crop: 24
    step: 12
  More:
    {common}
    role: train
    pictures: [{{archive: more.tar, members: HR/*.png, count: 2}}]
    megapixels: 0.01
    crop: 24
    step: 12
  Both: {{title: both, role: train, of: [Big, More], crop: 24, step: 12}}
  Five:
    {common}
    role: benchmark
    pictures: [{{archive: bench.tar.gz, members: bench/Five/HR/*.png, count: 2}}]
    megapixels: 0.01
  Grey:
    {common}
    role: benchmark
    pictures: [{{archive: bench.tar.gz, members: bench/Grey/HR/*.png, count: 1}}]
    megapixels: 0.01
  Secret:
    {common}
    role: benchmark
    consent: true
    pictures: [{{archive: secret.zip, members: '*', count: 1}}]
    megapixels: 0.01
  Asked:
    {common}
    role: benchmark
    ask: write to the authors
    pictures: [{{archive: asked.zip, members: '*', count: 2}}]
    megapixels: 0.01
"""
_COMMON = "title: a test set\n    licence: for tests\n    terms: 'https://example.org/terms'"


def image(seed: int, *shape: int) -> bytes:
    """A PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(file, 'png')
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip of files by path."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def tarred(files: dict[str, bytes], kind: str = '') -> bytes:
    """A tar of files by path, compressed with `gz` or the like."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f'w:{kind}') as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def archives() -> dict[str, bytes]:
    """The archives of the catalog that are given out, by name."""
    bench = {f'bench/Five/HR/{name}.png': image(n, 30, 42, 3) for n, name in enumerate(('bird', 'head'))}
    bench |= {'bench/Grey/HR/bridge.png': image(5, 24, 25), 'bench/Five/LR/bird.png': image(6, 5, 5)}
    return {
        'big.zip': zipped({f'big/{n:04d}.png': image(n, 36 + n, 48, 3) for n in range(3)}),
        'more.tar': tarred({f'M/HR/{n:06d}.png': image(9 + n, 24, 31, 3) for n in range(2)} | {'M/LR/1.png': b'1'}),
        'bench.tar.gz': tarred(bench, 'gz'),
        'secret.zip': zipped({'a.png': image(7, 24, 24, 3)}),
    }


def catalog_text(url: str, files: dict[str, bytes]) -> str:
    """The catalog of a server at an address."""
    return CATALOG.format(
        url=url,
        big_size=len(files['big.zip']),
        big_sha256=hashlib.sha256(files['big.zip']).hexdigest(),
        more_md5=hashlib.md5(files['more.tar']).hexdigest(),
        common=_COMMON,
    )
