"""The data sets that `compsrt data get` knows: archives, their checksums, and which images to take from them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.data.images import EXTENSIONS
from compsrt_basicsr.errors import CompSRTError, plain, suggestion
from compsrt_basicsr.hub.source import LARGEST_SIZE, Source
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.yaml_reader import parse_yaml

CATALOG = 'COMPSRT_CATALOG'
FORMAT = 1
_LONGEST = 4000  # characters that are kept of a text
TRAIN, BENCHMARK = 'train', 'benchmark'
_PACKAGED = Path(__file__).with_name('catalog.yml')
_TYPES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz')

M = TypeVar('M', bound=Options)


class Archive(Options):
    """A file that holds images, and its addresses."""

    name: str = Field(description='File name; its ending gives the kind of archive.')
    source: str = Field('', description='Who published address and checksum.')
    urls: tuple[str, ...] = Field(
        (), description='Addresses, tried in order; none if the archive cannot be downloaded.'
    )
    size: int | None = Field(None, ge=1, description='Size in bytes, if it is known exactly.')
    about: int = Field(
        0, ge=0, le=LARGEST_SIZE, description='Rounded size in bytes where the exact one is not known; 0 for unknown.'
    )
    sha256: str | None = Field(None, description='SHA-256 in lower-case hexadecimal.')
    md5: str | None = Field(None, description='MD5 in lower-case hexadecimal, where only this one was published.')

    @field_validator('name')
    @classmethod
    def _is_file_name(cls, name: str) -> str:
        if not re.fullmatch(r'[A-Za-z0-9_-][A-Za-z0-9._-]*', name) or not name.endswith(_TYPES):
            raise ValueError(
                f'the name of an archive has letters, digits, `.`, `_` and `-` and ends in {", ".join(_TYPES)}, '
                f'got `{name}`.'
            )
        return name

    @field_validator('md5')
    @classmethod
    def _is_md5(cls, md5: str | None) -> str | None:
        if md5 is not None and not re.fullmatch('[0-9a-f]{32}', md5):
            raise ValueError(f'an MD5 has 32 lower-case hexadecimal digits, got `{md5}`.')
        return md5

    @model_validator(mode='after')
    def _can_be_fetched(self) -> Archive:
        try:
            self.fetched()
        except CompSRTError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def bytes(self) -> int:
        """Size for the estimate of disk space, 0 if nothing is known."""
        return self.size or self.about

    def fetched(self) -> Source:
        """Returns what the downloader takes."""
        return Source(self.urls, self.size, self.sha256)


class ArchiveImages(Options):
    """Images of one archive."""

    archive: Archive = Field(description='Name of the archive.')
    members: str = Field(
        '*', min_length=1, description='Pattern for the end of a path in the archive, such as `HR/*.png`.'
    )
    count: int = Field(ge=1, description='How many images it matches.')

    def wants(self, name: str) -> bool:
        """Tells whether a member of the archive is one of the images; hidden files are not."""
        path = PurePosixPath(name)
        return path.suffix.lower() in EXTENSIONS and not path.name.startswith('.') and path.match(self.members)


class Dataset(Options):
    """A data set."""

    name: str = Field(description='Its name, and that of its folder: letters, digits, `_` and `-`.')
    title: str = Field(description='One line for people.')
    role: Literal['train', 'benchmark'] = Field(
        description='`train`: one HR LMDB of sub-images for all scales; `benchmark`: whole images, a pair per scale.'
    )
    images: tuple[ArchiveImages, ...] = Field(
        alias='pictures', min_length=1, description='Which images to take from which archive.'
    )
    of: tuple[str, ...] = Field((), description='Data sets that this one joins, in place of `pictures`.')
    megapixels: float = Field(gt=0, le=1e9, description='Pixels of all images in millions, rounded up.')
    licence: str = Field(description='The licence in a few words.')
    terms: str = Field(description="Address of the terms, or of the authors' page.")
    citation: str = Field('', description='The paper.')
    consent: bool = Field(False, description='Whether the user must accept the terms before a download.')
    ask: str = Field('', description='Where to get it if there is no address.')
    crop: int = Field(480, ge=0, description='Side of the HR sub-images of a training set; 0 keeps whole images.')
    step: int = Field(240, ge=0, description='Distance between sub-images.')

    @field_validator('title', 'licence', 'terms', 'citation', 'ask')
    @classmethod
    def _is_harmless(cls, text: str) -> str:
        return plain(text, _LONGEST)

    @field_validator('name')
    @classmethod
    def _is_folder_name(cls, name: str) -> str:
        if not re.fullmatch('[A-Za-z0-9_-]+', name):
            raise ValueError(f'the name of a data set has letters, digits, `_` and `-`, got `{name}`.')
        return name

    @model_validator(mode='after')
    def _crop_and_step_agree(self) -> Dataset:
        if self.role == BENCHMARK:
            object.__setattr__(self, 'crop', 0)
        if not self.crop:
            object.__setattr__(self, 'step', 0)
        elif not self.step:
            raise ValueError('`step` must be at least 1 if `crop` is not 0.')
        return self

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(images.count for images in self.images)

    @property
    def archives(self) -> tuple[Archive, ...]:
        """The archives that hold the images."""
        return tuple(images.archive for images in self.images)

    @property
    def addressless(self) -> tuple[Archive, ...]:
        """Archives that cannot be downloaded."""
        return tuple(archive for archive in self.archives if not archive.urls)


class CatalogFile(Options):
    """A catalog as it is written; its entries are checked one by one, since they name each other."""

    format: Literal[1]
    archives: dict[str, Any] | None = Field(None, description='Archives by file name.')
    datasets: dict[str, Any] | None = Field(None, description='Data sets by name.')


def load_catalog() -> dict[str, Dataset]:
    """Returns the data sets of the package and of the file in `$COMPSRT_CATALOG`, which has precedence.

    Raises:
        CompSRTError: if the file is missing or wrong.
    """
    known = parse_catalog(_PACKAGED.read_text(encoding='utf-8'), str(_PACKAGED))
    extra = os.environ.get(CATALOG)
    if not extra:
        return known
    try:
        text = expand_user(extra, f'${CATALOG}').read_text(encoding='utf-8')
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
        CompSRTError: if the text is no catalog or entries are wrong. The message lists every error.
    """
    content = parse_yaml(text, f'`{origin}`')
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise CompSRTError(f'`{origin}` is no catalog of format {FORMAT}: it needs `format: {FORMAT}`.')
    found = dict(known or {})
    errors: list[str] = []
    file = _build(CatalogFile, content, '', errors)
    if file is not None:
        archives = {
            name: _entry(Archive, name, f'archives.{name}', {} if values is None else values, errors)
            for name, values in (file.archives or {}).items()
        }
        for name, values in (file.datasets or {}).items():
            where = f'datasets.{name}'
            dataset = _entry(Dataset, name, where, _resolved(where, values, archives, found, errors), errors)
            if dataset is not None:
                found[name] = dataset
    if errors:
        raise CompSRTError(f'`{origin}`: {" ".join(errors)}')
    return found


def find(names: Iterable[str], catalog: Mapping[str, Dataset]) -> list[Dataset]:
    """Finds data sets by name in any case; each once, in the order given.

    Raises:
        CompSRTError: if a name is not known. The message names the nearest.
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


def _entry(model: type[M], name: str, where: str, values: Any, errors: list[str]) -> M | None:
    """Builds an entry that is named by its key; None if it has errors, or already had some."""
    if values is None:
        return None
    return _build(model, {**values, 'name': name} if isinstance(values, dict) else values, where, errors)


def _build(model: type[M], values: Any, where: str, errors: list[str]) -> M | None:
    found = model.errors_of(values, where)
    errors += found
    return None if found else model.from_opt(values)


def _resolved(
    where: str,
    values: Any,
    archives: Mapping[str, Archive | None],
    known: Mapping[str, Dataset],
    errors: list[str],
) -> Any:
    """Replaces the names of archives and data sets by what they stand for; None if that fails."""
    if not isinstance(values, dict):
        return {} if values is None else values
    if 'of' in values:
        return _joined(where, values, known, errors)
    resolved = []
    for index, images in enumerate(values['pictures'] if isinstance(values.get('pictures'), list) else ()):
        name = images.get('archive') if isinstance(images, dict) else None
        if not isinstance(name, str):
            resolved.append(images)  # the model reports it
        elif name not in archives:
            errors.append(f'`{where}.pictures[{index}]`: `archives` has no `{name}`.{suggestion(name, archives)}')
            return None
        elif archives[name] is None:
            return None  # its errors are listed already
        else:
            resolved.append({**images, 'archive': archives[name]})
    return {**values, 'pictures': resolved} if resolved else values


def _joined(where: str, values: dict[str, Any], known: Mapping[str, Dataset], errors: list[str]) -> Any:
    """Returns the values of a data set that joins others; what it leaves out is taken from them."""
    names = values['of']
    if 'pictures' in values or not isinstance(names, list) or not names:
        errors.append(f'`{where}` needs either `pictures` or `of`, a list of data sets above it.')
        return None
    missing = [name for name in names if not isinstance(name, str) or name not in known]
    if missing:
        errors.append(f'`{where}.of`: `{missing[0]}` is no data set above it.{suggestion(missing[0], known)}')
        return None
    datasets = [known[name] for name in names]

    def joined(key: str) -> str:
        return '; '.join(dict.fromkeys(getattr(dataset, key) for dataset in datasets if getattr(dataset, key)))

    return {
        'pictures': [images for dataset in datasets for images in dataset.images],
        'megapixels': sum(dataset.megapixels for dataset in datasets),
        'consent': any(dataset.consent for dataset in datasets),
        'licence': '; '.join(f'{dataset.name}: {dataset.licence}' for dataset in datasets),
        **{key: joined(key) for key in ('terms', 'citation', 'ask')},
        **values,
    }
