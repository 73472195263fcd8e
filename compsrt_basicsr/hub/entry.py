"""One model of a zoo, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.errors import CompSRTError, plain
from compsrt_basicsr.hub import NAME
from compsrt_basicsr.hub.source import LARGEST_SIZE, Source

_LONGEST, _LONGEST_KEY = 4000, 60  # characters that are kept of a text, and of the name of a data set or metric


class Entry(Options):
    """A model, and what is known of it."""

    name: str = Field(description='What follows `zoo://`.')
    kind: Literal['teacher', 'quantized', 'packed'] = Field(
        description='`teacher`: full precision; `quantized`: a checkpoint; `packed`: a file of codes.'
    )
    file: str = Field(description='Name of the weight file.')
    scale: int = Field(ge=1, le=16, description='Factor by which images grow.')
    architecture: str = Field(description='Registered name, and the arguments that matter.')
    weight_bits: int | None = Field(None, ge=2, le=8, description='Bits of the weights; none in full precision.')
    act_bits: int | None = Field(None, ge=2, le=8, description='Bits of the activations; none in full precision.')
    urls: tuple[str, ...] = Field(
        (), description='Addresses of the file, `URL#FILE` where its name is another; none for one beside the index.'
    )
    size: int | None = Field(None, ge=1, le=LARGEST_SIZE, description='Bytes, where they are known.')
    sha256: str | None = Field(
        None, description='Checksum in lower-case hexadecimal; without one, the first download records what it finds.'
    )
    licence: str = Field('not stated', description='Terms of the weights.')
    origin: str = Field('not stated', description='Who made the file, and from what.')
    citation: str = Field('', description='What to cite.')
    quality: dict[str, dict[str, float]] | None = Field(
        None, description='{data set: {metric: value}}, PSNR in dB, SSIM from 0 to 1, measured as `protocol` says.'
    )
    protocol: str = Field('', description='Data, border, channel, padding and weights behind `quality`.')
    notes: str = Field('', description='What else a user should know.')

    @field_validator('name', 'file')
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(
                'must be at most 100 letters, digits, `_`, `.` and `-`, the first a letter or a digit, got '
                f'{value!r:.60}.'
            )
        return value

    @field_validator('architecture', 'licence', 'origin', 'citation', 'protocol', 'notes')
    @classmethod
    def _is_harmless(cls, value: str) -> str:
        return plain(value, _LONGEST)

    @field_validator('quality')
    @classmethod
    def _has_harmless_names(cls, value: dict[str, dict[str, float]] | None) -> dict[str, dict[str, float]] | None:
        if value is None:
            return None
        return {
            plain(name, _LONGEST_KEY): {plain(metric, _LONGEST_KEY): number for metric, number in values.items()}
            for name, values in value.items()
        }

    @model_validator(mode='after')
    def _has_sound_source(self) -> Entry:
        try:
            self.source()
        except CompSRTError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def bits(self) -> str:
        """'w4a4' and the like; 'fp' in full precision."""
        return 'fp' if self.weight_bits is None else f'w{self.weight_bits}a{self.act_bits}'

    def source(self, base: str | None = None) -> Source:
        """Returns what the file must be and where it is: at its own addresses, else under `base`.

        Raises:
            CompSRTError: if an address, the size or the checksum cannot be one.
        """
        urls: Sequence[str] = self.urls or (() if base is None else (base + self.file,))
        return Source(tuple(urls), self.size, self.sha256)

    def to_mapping(self) -> dict[str, Any]:
        """Returns what builds the entry again, without what is not known, as plain data for YAML."""
        found = {key: getattr(self, key) for key in type(self).model_fields}
        result = {key: value for key, value in found.items() if value not in (None, '', ())}
        return {**result, 'urls': list(self.urls)} if self.urls else result
