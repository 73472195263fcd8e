"""One model of the zoo, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.hub.source import Source

KINDS = ('teacher', 'quantized', 'packed')
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,99}')
_TEXTS = ('architecture', 'licence', 'origin', 'citation', 'protocol', 'notes')


@dataclass(frozen=True)
class Entry:
    """A model, and what is known of it.

    Attributes:
        name: what follows `zoo://`.
        kind: 'teacher' (full precision), 'quantized' (a checkpoint) or 'packed' (a file of codes).
        file: name of the weight file.
        architecture: registered name, and the arguments that matter.
        scale: factor by which pictures grow.
        weight_bits, act_bits: bit widths; None in full precision.
        urls: addresses of the file; none for a file that lies beside the index.
        size: bytes, or None where it is not known.
        sha256: checksum, or None where none was published: it is recorded at the first download.
        licence, origin, citation: terms; who made the file, and from what; what to cite.
        quality: {data set: {'psnr': dB, 'ssim': 0 to 1}}, measured as `protocol` says.
        protocol: data, border, channel, padding and weights behind `quality`.
        notes: what else a user should know.
    """

    name: str
    kind: str
    file: str
    scale: int
    architecture: str
    weight_bits: int | None = None
    act_bits: int | None = None
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    licence: str = 'not stated'
    origin: str = 'not stated'
    citation: str = ''
    quality: Mapping[str, Mapping[str, float]] | None = None
    protocol: str = ''
    notes: str = ''

    def __post_init__(self) -> None:
        for key in ('name', 'file'):
            if not isinstance(getattr(self, key), str) or not NAME.fullmatch(getattr(self, key)):
                self._refuse(key, 'at most 100 letters, digits, `_`, `.` and `-`, the first a letter or a digit')
        if self.kind not in KINDS:
            self._refuse('kind', f'one of {", ".join(KINDS)}')
        if isinstance(self.scale, bool) or not isinstance(self.scale, int) or not 1 <= self.scale <= 16:
            self._refuse('scale', 'a whole number from 1 to 16')
        for key in ('weight_bits', 'act_bits'):
            bits = getattr(self, key)
            if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8):
                self._refuse(key, 'a whole number from 2 to 8')
        for key in _TEXTS:
            if not isinstance(getattr(self, key), str):
                self._refuse(key, 'a text')
        object.__setattr__(self, 'urls', tuple(self.urls))
        object.__setattr__(self, 'quality', _checked_quality(self))
        self.source()  # checks addresses, size and checksum

    def _refuse(self, key: str, wanted: str) -> None:
        raise CompSRTError(f'`{key}` of the zoo model `{self.name}` must be {wanted}, got {getattr(self, key)!r}.')

    @property
    def bits(self) -> str:
        """'w4a4' and the like; 'fp' in full precision."""
        return 'fp' if self.weight_bits is None else f'w{self.weight_bits}a{self.act_bits}'

    def source(self, base: str | None = None) -> Source:
        """What the file must be, and where it is: its own addresses, else under `base`.

        Raises:
            CompSRTError: an address, the size or the checksum cannot be one.
        """
        urls = self.urls or (() if base is None else (base + self.file,))
        try:
            return Source(urls, self.size, self.sha256)
        except CompSRTError as error:
            raise CompSRTError(f'The zoo model `{self.name}`: {error}') from error

    @classmethod
    def from_mapping(cls, values: Any) -> Entry:
        """Builds an entry from YAML.

        Raises:
            CompSRTError: no mapping, an unknown or missing key, or a value that cannot be.
        """
        if not isinstance(values, Mapping):
            raise CompSRTError(f'A model of a zoo must be a mapping, got {type(values).__name__}.')
        known = [f.name for f in fields(cls)]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise CompSRTError(f'`{unknown[0]}` is no property of a zoo model.{suggestion(unknown[0], known)}')
        missing = [key for key in ('name', 'kind', 'file', 'scale', 'architecture') if key not in values]
        if missing:
            raise CompSRTError(f'The zoo model `{values.get("name", "?")}` lacks `{missing[0]}`.')
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """What `from_mapping` reads, without what is not known."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        result = {key: value for key, value in found.items() if value not in (None, '', ())}
        return {**result, 'urls': list(self.urls)} if self.urls else result


def _checked_quality(entry: Entry) -> dict[str, dict[str, float]] | None:
    if entry.quality is None:
        return None
    try:
        return {
            str(dataset): {str(metric): float(value) for metric, value in metrics.items()}
            for dataset, metrics in entry.quality.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise CompSRTError(
            f'`quality` of the zoo model `{entry.name}` must be {{data set: {{metric: number}}}}.'
        ) from error
