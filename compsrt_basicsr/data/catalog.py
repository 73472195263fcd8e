"""The data sets that `compsrt data get` knows: archives with their checksums, and what to take from them, as data."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from compsrt_basicsr.data.pictures import EXTENSIONS
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.hub.source import Source

CATALOG = 'COMPSRT_CATALOG'
FORMAT = 1
TRAIN, BENCHMARK = 'train', 'benchmark'
_PACKAGED = Path(__file__).with_name('catalog.yml')
_TYPES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz')


@dataclass(frozen=True)
class Archive:
    """A file with pictures, and where it is.

    Attributes:
        name: its file name; the ending tells the kind.
        source: who gave address and checksum.
        urls: addresses, tried in order; none where it cannot be downloaded.
        size: bytes, or None where it is not known.
        about: rounded size in bytes where the exact one is not known; 0 for unknown.
        sha256: checksum in lower-case hexadecimal, or None.
        md5: the same where only this one was published.

    Raises:
        CompSRTError: a value is of the wrong form.
    """

    name: str
    source: str = ''
    urls: tuple[str, ...] = ()
    size: int | None = None
    about: int = 0
    sha256: str | None = None
    md5: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r'[A-Za-z0-9_-][A-Za-z0-9._-]*', str(self.name)) or not self.name.endswith(_TYPES):
            raise CompSRTError(
                f'An archive is named by letters, digits, `.`, `_` and `-` and ends in {", ".join(_TYPES)}, '
                f'got `{self.name}`.'
            )
        if not isinstance(self.urls, (list, tuple)):
            raise CompSRTError(f'`urls` of the archive `{self.name}` must be a list of addresses.')
        object.__setattr__(self, 'urls', tuple(self.urls))
        if self.md5 is not None and not re.fullmatch('[0-9a-f]{32}', str(self.md5)):
            raise CompSRTError(f'`md5` of `{self.name}` must be 32 lower-case hexadecimal digits, got {self.md5!r}.')
        if isinstance(self.about, bool) or not isinstance(self.about, int) or self.about < 0:
            raise CompSRTError(f'`about` of `{self.name}` must be a number of bytes, got {self.about!r}.')
        try:
            self.fetched()
        except CompSRTError as error:
            raise CompSRTError(f'The archive `{self.name}`: {error}') from error

    @property
    def bytes(self) -> int:
        """Size for foreseeing disk space, 0 if nothing is known."""
        return self.size or self.about

    def fetched(self) -> Source:
        """What the downloader takes."""
        return Source(self.urls, self.size, self.sha256)


@dataclass(frozen=True)
class Part:
    """Pictures of one archive.

    Attributes:
        archive: the file.
        members: pattern for the end of a member's path, folder by folder, as in `HR/*.png`.
        count: how many pictures it gives.
    """

    archive: Archive
    members: str
    count: int

    def __post_init__(self) -> None:
        if not isinstance(self.members, str) or not self.members:
            raise CompSRTError(f'`members` must be a pattern such as `HR/*.png`, got {self.members!r}.')
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise CompSRTError(f'`count` must be a number of pictures, got {self.count!r}.')

    def wants(self, name: str) -> bool:
        """Whether a member is one of the pictures; hidden files are not."""
        path = PurePosixPath(name)
        return path.suffix.lower() in EXTENSIONS and not path.name.startswith('.') and path.match(self.members)


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: as it is asked for, and that of its folder; letters, digits, `_` and `-`.
        title: one line for people.
        role: `train`, one HR LMDB of sub-images for all scales, or `benchmark`, whole pictures, a pair for each scale.
        parts: what to take from where.
        megapixels: pixels of all pictures in millions, rounded up.
        licence: in a few words.
        terms: address of the terms, or of the authors' page.
        citation: the paper.
        consent: whether the user must say that the terms are accepted before anything is downloaded.
        ask: where to get it when there is no address.
        crop: side of the HR sub-images of a training set; 0 keeps whole pictures.
        step: distance between sub-images.

    Raises:
        CompSRTError: a value is out of its range.
    """

    name: str
    title: str
    role: str
    parts: tuple[Part, ...]
    megapixels: float
    licence: str
    terms: str
    citation: str = ''
    consent: bool = False
    ask: str = ''
    crop: int = 480
    step: int = 240

    def __post_init__(self) -> None:
        if not re.fullmatch('[A-Za-z0-9_-]+', str(self.name)):
            raise CompSRTError(f'A data set is named by letters, digits, `_` and `-`, got `{self.name}`.')
        if self.role not in (TRAIN, BENCHMARK):
            raise CompSRTError(f'`role` of `{self.name}` must be {TRAIN} or {BENCHMARK}, got {self.role!r}.')
        if not self.parts:
            raise CompSRTError(f'`pictures` of `{self.name}` must list at least one archive.')
        if not _is_number(self.megapixels) or self.megapixels <= 0:
            raise CompSRTError(f'`megapixels` of `{self.name}` must be positive, got {self.megapixels!r}.')
        if not isinstance(self.consent, bool):
            raise CompSRTError(f'`consent` of `{self.name}` must be true or false, got {self.consent!r}.')
        for key in ('crop', 'step'):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise CompSRTError(f'`{key}` of `{self.name}` must be 0 or a number of pixels, got {value!r}.')
        if self.role == BENCHMARK:
            object.__setattr__(self, 'crop', 0)
        if not self.crop:
            object.__setattr__(self, 'step', 0)

    @property
    def count(self) -> int:
        """Pictures in all."""
        return sum(part.count for part in self.parts)

    @property
    def addressless(self) -> tuple[Archive, ...]:
        """Archives that cannot be downloaded."""
        return tuple(part.archive for part in self.parts if not part.archive.urls)


def load_catalog() -> dict[str, Dataset]:
    """The data sets of the package and of the file that `$COMPSRT_CATALOG` names, which wins.

    Raises:
        CompSRTError: the file is missing or wrong.
    """
    known = parse_catalog(_PACKAGED.read_text(encoding='utf-8'), str(_PACKAGED))
    extra = os.environ.get(CATALOG)
    if not extra:
        return known
    try:
        text = Path(extra).expanduser().read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise CompSRTError(f'${CATALOG} names `{extra}`, which cannot be read ({error}).') from error
    return parse_catalog(text, extra, known)


def parse_catalog(text: str, origin: str, known: Mapping[str, Dataset] | None = None) -> dict[str, Dataset]:
    """Reads a catalog.

    Args:
        text: YAML of the form of `catalog.yml`.
        origin: where it comes from, for messages.
        known: data sets to which these are added; `of` may name them.

    Returns:
        Data sets by name, known ones included.

    Raises:
        CompSRTError: the text is no catalog, or an entry is wrong.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise CompSRTError(f'`{origin}` is not valid YAML ({" ".join(str(error).split())}).') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise CompSRTError(f'`{origin}` is no catalog of format {FORMAT}: it needs `format: {FORMAT}`.')
    try:
        _only(content, ('format', 'archives', 'datasets'), 'The catalog')
        archives = {name: _archive(name, values) for name, values in _mapping(content, 'archives').items()}
        found = dict(known or {})
        for name, values in _mapping(content, 'datasets').items():
            found[name] = _dataset(name, values, archives, found)
    except CompSRTError as error:
        raise CompSRTError(f'`{origin}`: {error}') from error
    return found


def find(names: tuple[str, ...] | list[str], catalog: Mapping[str, Dataset]) -> list[Dataset]:
    """Finds data sets by name, whatever the case; each once, in the order given.

    Raises:
        CompSRTError: a name is not known.
    """
    by_lower = {name.lower(): dataset for name, dataset in catalog.items()}
    found = {}
    for name in names:
        dataset = by_lower.get(str(name).lower())
        if dataset is None:
            near = suggestion(str(name).lower(), by_lower)
            near = re.sub('`(.+)`', lambda match: f'`{by_lower[match[1]].name}`', near)
            raise CompSRTError(f'There is no data set `{name}`: known are {", ".join(catalog)}.{near}')
        found[dataset.name] = dataset
    return list(found.values())


def _archive(name: str, values: Any) -> Archive:
    _only(values, [field.name for field in fields(Archive) if field.name != 'name'], f'The archive `{name}`')
    return Archive(name, **values)


def _dataset(name: str, values: Any, archives: Mapping[str, Archive], known: Mapping[str, Dataset]) -> Dataset:
    what = f'The data set `{name}`'
    own = [field.name for field in fields(Dataset) if field.name not in ('name', 'parts')]
    _only(values, [*own, 'pictures', 'of'], what)
    values = dict(values)
    if 'of' in values:
        values = _composed(what, values, known)
    else:
        values['parts'] = tuple(_part(what, part, archives) for part in values.pop('pictures', None) or ())
    lacking = [f.name for f in fields(Dataset) if f.default is MISSING and f.name not in ('name', *values)]
    if lacking:
        raise CompSRTError(f'{what} lacks `{lacking[0]}`.')
    return Dataset(name, **values)


def _composed(what: str, values: dict[str, Any], known: Mapping[str, Dataset]) -> dict[str, Any]:
    """The values of a data set that joins others; what it does not say itself is taken from them."""
    names = values.pop('of')
    if 'pictures' in values or not isinstance(names, list) or not names:
        raise CompSRTError(f'{what} has either `pictures` or `of`, a list of data sets above it.')
    for other in names:
        if other not in known:
            raise CompSRTError(f'{what} is made of `{other}`, which is not above it.{suggestion(other, known)}')
    parts = [known[other] for other in names]

    def joined(key: str) -> str:
        return '; '.join(dict.fromkeys(getattr(part, key) for part in parts if getattr(part, key)))

    return {
        'parts': tuple(part for dataset in parts for part in dataset.parts),
        'megapixels': sum(part.megapixels for part in parts),
        'consent': any(part.consent for part in parts),
        'licence': '; '.join(f'{part.name}: {part.licence}' for part in parts),
        **{key: joined(key) for key in ('terms', 'citation', 'ask')},
        **values,
    }


def _part(what: str, values: Any, archives: Mapping[str, Archive]) -> Part:
    _only(values, ('archive', 'members', 'count'), f'A part of `pictures`: {what}')
    name = values.get('archive')
    if name not in archives:
        raise CompSRTError(f'{what} takes pictures from `{name}`, which `archives` lacks.{suggestion(name, archives)}')
    try:
        return Part(archives[name], values.get('members', '*'), values.get('count'))
    except CompSRTError as error:
        raise CompSRTError(f'{what}: {error}') from error


def _mapping(content: dict, key: str) -> dict:
    found = content.get(key) or {}
    if not isinstance(found, dict):
        raise CompSRTError(f'`{key}` must be a mapping from names to entries.')
    return found


def _only(values: Any, allowed, what: str) -> None:
    if not isinstance(values, dict):
        raise CompSRTError(f'{what} must be a mapping, got {values!r}.')
    for key in values:
        if key not in allowed:
            raise CompSRTError(f'{what} has the unknown key `{key}`.{suggestion(key, allowed)}')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
