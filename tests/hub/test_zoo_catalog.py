"""Names to files: the package's zoo, folders, web servers, and what is wrong with them."""

from __future__ import annotations

import hashlib

import pytest
import web_server
import yaml

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import catalog, guard, transfer
from compsrt_basicsr.hub.card import render_card
from compsrt_basicsr.hub.catalog import PACKAGE, bases, find, local_zoo, models
from compsrt_basicsr.hub.entry import Entry
from compsrt_basicsr.hub.index import parse_index, read_index, write_index

BODY = b'weights' * 100
MODEL = {'name': 'mine', 'kind': 'quantized', 'file': 'mine.pth', 'scale': 2, 'architecture': 'CompSRTSwinIR'}
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    for name in ('COMPSRT_ZOO', 'COMPSRT_OFFLINE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer, 'FIRST_PAUSE', 0.001)
    return tmp_path / 'home'


@pytest.fixture
def server():
    with web_server.running_server() as running:
        running.files['zoo/mine.pth'] = BODY
        yield running


def entry(**changes):
    return Entry.from_opt({**MODEL, **changes})


def index(*entries):
    return yaml.safe_dump({'format': 1, 'models': [e.to_mapping() for e in entries]})


def folder_zoo(folder, *entries, body=BODY):
    folder.mkdir(parents=True)
    write_index(folder, entries)
    for e in entries:
        (folder / e.file).write_bytes(body)
    return folder


def test_the_package_has_the_three_official_light_models_and_its_own():
    found = read_index(PACKAGE)
    assert find('zoo://swinir_light_x2_house').path.is_file()
    assert [found[f'swinir_light_x{scale}'].size for scale in (2, 3, 4)] == [17_147_989, 17_180_437, 17_225_941]
    assert all(found[f'swinir_light_x{scale}'].sha256 for scale in (2, 3, 4))
    assert len({e.file for e in found.values()}) == len(found)


@pytest.mark.parametrize('name', read_index(PACKAGE))
def test_entries_of_the_package(name):
    e = read_index(PACKAGE)[name]
    assert e == Entry.from_opt(e.to_mapping())
    assert e.licence != 'not stated' and e.origin != 'not stated'
    assert f'_x{e.scale}' in e.name and f'x{e.scale}' in e.file
    assert all(url.startswith('https://') and url.endswith(e.file) for url in e.urls)
    assert not e.quality or e.protocol


def test_a_folder_is_a_zoo(monkeypatch, tmp_path):
    zoo = folder_zoo(tmp_path / 'shared', entry(sha256=DIGEST))
    monkeypatch.setenv('COMPSRT_ZOO', f' {zoo} ')
    assert find('mine').fetch() == zoo / 'mine.pth'
    (zoo / 'mine.pth').write_bytes(b'other')
    with pytest.raises(CompSRTError, match='is not the zoo model `mine`'):
        find('mine').fetch()
    (zoo / 'mine.pth').unlink()
    with pytest.raises(CompSRTError, match=r'lists `mine` but has no file `mine\.pth`'):
        find('mine').fetch()


def test_the_local_zoo_is_always_there_and_earlier_zoos_win(monkeypatch, tmp_path):
    folder_zoo(local_zoo(), entry(notes='local'))
    monkeypatch.setenv('COMPSRT_ZOO', str(folder_zoo(tmp_path / 'other', entry(notes='other'), entry(name='second'))))
    assert find('mine').entry.notes == models()['mine'].entry.notes == 'local'
    assert 'second' in models()


def test_a_web_server_is_a_zoo(monkeypatch, server, home):
    server.files['zoo/index.yml'] = index(entry(sha256=DIGEST, size=len(BODY))).encode()
    monkeypatch.setenv('COMPSRT_ZOO', server.url('zoo'))
    path = find('zoo://mine').fetch()
    assert path == home / 'models/mine/mine.pth' and path.read_bytes() == BODY
    asked = [name for name, *_ in server.requests]
    assert asked == ['zoo/index.yml', 'zoo/mine.pth']
    assert find('swinir_light_x2_house').is_here
    assert len(server.requests) == 2, 'a model of the package needs no network'


def test_without_network_the_last_index_and_the_files_serve(monkeypatch, server):
    server.files['zoo/index.yml'] = index(entry(sha256=DIGEST)).encode()
    monkeypatch.setenv('COMPSRT_ZOO', server.url('zoo/'))
    find('mine').fetch()
    monkeypatch.setenv('COMPSRT_OFFLINE', '1')
    assert find('mine').fetch().read_bytes() == BODY
    monkeypatch.setenv('COMPSRT_OFFLINE', '0')
    server.behaviours['zoo/index.yml'] = [web_server.status(500)]
    assert find('mine').is_here


@pytest.mark.parametrize('offline', ['0', '1'])
def test_a_zoo_that_never_answered_is_named(monkeypatch, server, offline):
    monkeypatch.setenv('COMPSRT_ZOO', server.url('none'))
    monkeypatch.setenv('COMPSRT_OFFLINE', offline)
    with pytest.raises(CompSRTError, match=r'The zoo http://127\S+/none/ cannot be used: .* check \$COMPSRT_ZOO'):
        find('mine')


def test_an_index_of_any_size_is_not_swallowed(monkeypatch, server):
    monkeypatch.setattr(catalog, '_LARGEST_INDEX', 10)
    server.files['zoo/index.yml'] = index(entry()).encode()
    monkeypatch.setenv('COMPSRT_ZOO', server.url('zoo'))
    with pytest.raises(CompSRTError, match='its index has more than 10 bytes'):
        find('mine')


@pytest.mark.parametrize(
    ('behaviour', 'reason'),
    [
        (web_server.redirect('http://example.org/index.yml'), 'leads to http://example.org/.* not encrypted'),
        (web_server.redirect('https://[::1'), 'leads to .* no address'),
        (web_server.drip(b''), 'sends less than 1,000 bytes a second'),
        (web_server.drip(b'HTTP/1.1 200 OK\r\n\r\n'), 'sends less than 1,000 bytes a second'),
        (web_server.send(b'\xff'), 'is not UTF-8 text'),
        (web_server.status(500), 'answers 500'),
    ],
)
def test_an_index_that_does_not_come_is_a_sentence(monkeypatch, server, behaviour, reason):
    """What is not verified must not leave encryption; and a slow server must not hold a command up."""
    monkeypatch.setattr(guard, 'SPAN', 0.2)
    monkeypatch.setattr(guard, 'ANSWER_TIME', 0.3)
    server.files['zoo/index.yml'] = index(entry()).encode()
    server.behaviours['zoo/index.yml'] = [behaviour] * 2
    monkeypatch.setenv('COMPSRT_ZOO', server.url('zoo'))
    with pytest.raises(CompSRTError, match=f'cannot be used: its index {reason}'):
        find('mine')
    server.behaviours['zoo/index.yml'] = []
    assert find('mine').entry.name == 'mine'
    server.behaviours['zoo/index.yml'] = [behaviour]
    assert find('mine').entry.name == 'mine', 'the last index serves'


def test_an_index_is_asked_for_again(monkeypatch, server):
    server.files['zoo/index.yml'] = index(entry()).encode()
    server.behaviours['zoo/index.yml'] = [web_server.cut(10)]
    monkeypatch.setenv('COMPSRT_ZOO', server.url('zoo'))
    assert find('mine').entry.name == 'mine' and len(server.requests) == 2


@pytest.mark.parametrize(
    ('zoo', 'text'),
    [
        ('http://example.org/zoo', 'is not encrypted'),
        ('https://[::1', 'is not an https:// address'),
        ('https://example.org:port/', 'is not an https:// address'),
        ('~nosuch/zoo', 'home folder of `~nosuch` is not known'),
    ],
)
def test_places_that_are_no_zoos_are_refused(monkeypatch, zoo, text):
    monkeypatch.setenv('COMPSRT_ZOO', zoo)
    with pytest.raises(CompSRTError, match=rf'\$COMPSRT_ZOO: .*{text}'):
        bases()


def test_texts_of_an_index_do_no_harm_on_a_terminal():
    """Escape sequences and texts without end, wherever an index has words."""
    wild = '\x1b]0;x\x07\u202e' + 'x' * 10**4
    texts = ('architecture', 'licence', 'origin', 'citation', 'protocol', 'notes')
    values = {**MODEL, **dict.fromkeys(texts, wild), 'quality': {wild: {wild: 1e300, 'psnr': 1e300}}}
    harmless = parse_index(yaml.safe_dump({'format': 1, 'models': [values]}), 'index.yml')['mine']
    card = render_card(harmless)
    assert len(card) < 100_000 and not set('\x1b\x07\u202e') & set(card) and '\\x1b]0;x' in card


@pytest.mark.parametrize(
    'models',
    [
        [{**MODEL, 'name': '\x1b[2J' + 'x' * 10**4}],
        [{**MODEL, 'urls': ['https://x/\x1b[2J' + 'x' * 10**4]}],
        [{**MODEL, '\x1b[2J' + 'x' * 10**4: 1}],
        [{**MODEL, 'size': 10**4000}],
        [{**MODEL, 'kind': 'x' * 10**4}] * 99,
        [['\x1b[2J' + 'x' * 10**4]],
    ],
)
def test_messages_about_an_index_are_short_and_harmless(models):
    with pytest.raises(CompSRTError) as error:
        parse_index(yaml.safe_dump({'format': 1, 'models': models}), 'index.yml')
    assert len(str(error.value)) <= 8000 and '\x1b' not in str(error.value)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'name': '../escape'}, '`name`'),
        ({'file': '../../etc/passwd'}, '`file`'),
        ({'file': '.hidden'}, '`file`'),
        ({'kind': 'student'}, '`kind` must be one of teacher, quantized, packed'),
        ({'scale': 0}, '`scale`'),
        ({'scale': True}, '`scale`'),
        ({'weight_bits': 1}, '`weight_bits`'),
        ({'licence': 3}, '`licence`'),
        ({'size': -1}, '`size`'),
        ({'size': 2**60}, '`size`'),
        ({'sha256': 'x'}, '`sha256`'),
        ({'urls': ['http://example.org/x']}, 'not encrypted'),
        ({'urls': ['file:///etc/passwd']}, 'not an https:// address'),
        ({'quality': {'Set5': 38}}, '`quality'),
        ({'colour': 'red'}, '`colour`'),
        ({'licens': 'MIT'}, 'Did you mean `licence`'),
    ],
)
def test_entries_are_checked(changes, text):
    with pytest.raises(CompSRTError, match=text) as error:
        parse_index(yaml.safe_dump({'format': 1, 'models': [{**MODEL, **changes}]}), 'index.yml')
    assert f'zoo model `{changes.get("name", "mine")}`' in str(error.value)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a: [', 'not valid YAML'),
        ('[' * 5000, 'not valid YAML'),
        ('- 1', 'not a zoo index of format 1'),
        ('format: 2\nmodels: []', 'not a zoo index of format 1: `format` must be 1'),
        ('format: 1\nmodel: []', 'Did you mean `models`'),
        ('format: 1\nmodels: [3]', 'got 3'),
        ('format: 1\nmodels: [{name: x}, {name: y}]', 'zoo model `x`: .*`kind`.*zoo model `y`: .*`kind`'),
        (index(entry(), entry()), 'two models `mine`'),
        ('format: 1\nmodels: !!python/object/apply:os.system [id]', 'not valid YAML'),
    ],
)
def test_indexes_are_checked(text, message):
    with pytest.raises(CompSRTError, match=message):
        parse_index(text, 'index.yml')


def test_an_unreadable_index_is_named(tmp_path):
    (tmp_path / 'index.yml').write_bytes(b'\xff\xfe')
    with pytest.raises(CompSRTError, match='cannot be read'):
        read_index(tmp_path)


def test_metadata_are_read_without_torch_and_without_the_network(run_command, tmp_path):
    code = (
        'import sys, types; package = types.ModuleType("compsrt_basicsr"); package.__path__ = [sys.argv[1]]; '
        'sys.modules["compsrt_basicsr"] = package; from compsrt_basicsr.hub.catalog import models; '
        'print(len(models()), sorted({"torch", "basicsr", "requests", "numpy", "tqdm"} & set(sys.modules)))'
    )
    result = run_command(['python', '-c', code, PACKAGE.parent], tmp_path)
    assert result.stdout.split(maxsplit=1) == [str(len(read_index(PACKAGE))), '[]\n'], result.stderr
