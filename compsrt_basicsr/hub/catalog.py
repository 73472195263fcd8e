"""All models that can be named: those of the package, of the local zoo, and of the zoos in `$COMPSRT_ZOO`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.hub import SCHEME
from compsrt_basicsr.hub.checksum import verify
from compsrt_basicsr.hub.download import download
from compsrt_basicsr.hub.entry import Entry
from compsrt_basicsr.hub.home import OFFLINE, home, offline
from compsrt_basicsr.hub.index import INDEX, parse_index, read_index
from compsrt_basicsr.hub.source import Source, check_url
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.progress import SILENT, Progress

ZOOS = 'COMPSRT_ZOO'
PACKAGE = Path(__file__).parent
_LARGEST_INDEX = 2**22  # bytes
_BLOCK = 2**12  # bytes; small, since a slow server is given up after a while without one


@dataclass(frozen=True)
class Located:
    """A model and where its zoo lies.

    Attributes:
        entry: what is known of it.
        base: folder of the zoo, or its address with a `/` at the end.
    """

    entry: Entry
    base: Path | str

    @property
    def path(self) -> Path:
        """Where the file is, or will be after a download."""
        folder = self._folder
        return home() / 'models' / self.entry.name / self.entry.file if folder is None else folder / self.entry.file

    @property
    def is_here(self) -> bool:
        """Whether the file is on this machine."""
        return self.path.is_file()

    def fetch(self, progress: Progress = SILENT) -> Path:
        """Returns the verified file, after a download if need be.

        Raises:
            CompSRTError: if it cannot be downloaded, or is altered.
        """
        if self._folder is None:
            download(self._source, self.path, what=self._what, progress=progress)
        elif self.is_here:
            self.check()
        else:
            raise CompSRTError(f'The zoo `{self.base}` lists `{self.entry.name}` but has no file `{self.entry.file}`.')
        return self.path

    def check(self) -> str:
        """Compares the file that is here with the size and checksum of the entry, or with the recorded checksum.

        Returns:
            SHA-256 of the file, in hexadecimal.

        Raises:
            CompSRTError: if it differs.
        """
        return verify(self._source, self.path, what=self._what)

    @property
    def _folder(self) -> Path | None:
        """The folder of a file that lies beside its index."""
        return self.base if isinstance(self.base, Path) and not self.entry.urls else None

    @property
    def _source(self) -> Source:
        return self.entry.source(self.base if isinstance(self.base, str) else None)

    @property
    def _what(self) -> str:
        return f'the zoo model `{self.entry.name}`'


def local_zoo() -> Path:
    """Returns the folder into which `compsrt zoo add` publishes by default."""
    return home() / 'zoo'


def bases() -> list[Path | str]:
    """Returns the zoos, first the package's: folders, and addresses from `$COMPSRT_ZOO`, which spaces separate.

    Raises:
        CompSRTError: if an address is not encrypted.
    """
    found: list[Path | str] = [PACKAGE, local_zoo()]
    for word in os.environ.get(ZOOS, '').split():
        if '://' in word:
            try:
                check_url(word, verified=False)
            except CompSRTError as error:
                raise CompSRTError(f'${ZOOS}: {error}') from error
            found.append(word.rstrip('/') + '/')
        else:
            found.append(expand_user(word, f'${ZOOS}'))
    return found


def models() -> dict[str, Located]:
    """Returns all models by name; of two with the same name the one of the earlier zoo.

    Raises:
        CompSRTError: if a zoo cannot be read.
    """
    found: dict[str, Located] = {}
    for located in _all():
        found.setdefault(located.entry.name, located)
    return found


def find(name: str) -> Located:
    """Finds the model of a name, with or without `zoo://`.

    Zoos are asked one after the other, so that a model of the package needs no network.

    Raises:
        CompSRTError: if no zoo has the name. The message names the nearest.
    """
    name = name.removeprefix(SCHEME)
    known = []
    for located in _all():
        if located.entry.name == name:
            return located
        known.append(located.entry.name)
    raise CompSRTError(
        f'The zoo has no model `{name}`.{suggestion(name, known)} `compsrt zoo list` shows what it has; other weights '
        'are given by their path.'
    )


def asked_before(name: str, folder: Path) -> Path | str | None:
    """Returns the first zoo that has a name and is asked before a folder, so that it hides the folder's model.

    A zoo that cannot be read has none.
    """
    for base in bases():
        if isinstance(base, Path) and base.resolve() == folder.resolve():
            return None
        with suppress(CompSRTError):
            if name in _entries(base):
                return base
    return None


def _entries(base: Path | str) -> dict[str, Entry]:
    return read_index(base) if isinstance(base, Path) else _remote_index(base)


def _all() -> Iterator[Located]:
    for base in bases():
        for entry in _entries(base).values():
            yield Located(entry, base)


def _remote_index(base: str) -> dict[str, Entry]:
    """Returns the index of an address; where the network gives none, the one that it gave last.

    Raises:
        CompSRTError: if there is neither.
    """
    url = base + INDEX
    kept = home() / 'indexes' / f'{hashlib.sha256(base.encode()).hexdigest()[:16]}.yml'
    reason = f'${OFFLINE} forbids the network'
    if not offline():
        from compsrt_basicsr.hub.answer import Refused

        try:
            text = _get(url, attempts=1 if kept.exists() else 2)
        except Refused as refusal:
            reason = f'its index {refusal}'
        else:
            entries = parse_index(text, url)
            with suppress(OSError):  # it serves without network only
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_text(kept, text)
            return entries
    if kept.exists():
        return parse_index(kept.read_text(encoding='utf-8'), url)
    raise CompSRTError(f'The zoo {base} cannot be used: {reason}; check ${ZOOS}, or go on without it.')


def _get(url: str, attempts: int) -> str:
    """Returns the text of an address that nothing verifies.

    Raises:
        Refused: if it gives none.
    """
    from compsrt_basicsr.hub.answer import Interrupted, Refused, answer, require_success

    while True:
        try:
            with answer(url, {}, verified=False) as received:
                require_success(received.response)
                data = b''
                for block in received.response.iter_content(_BLOCK):
                    received.note(len(block))
                    data += block
                    if len(data) > _LARGEST_INDEX:
                        raise Refused(f'has more than {_LARGEST_INDEX:,} bytes')
            return data.decode('utf-8')
        except Interrupted as interruption:
            attempts -= 1
            if not attempts:
                raise Refused(str(interruption)) from interruption
        except UnicodeDecodeError as error:
            raise Refused('is not UTF-8 text') from error
