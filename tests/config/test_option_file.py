"""YAML files: numbers are numbers, names are names, doubled keys and bad syntax are told with their line."""

import pytest

from compsrt_basicsr.config.option_file import OptionPath, copy_option_file, read_option_file
from compsrt_basicsr.errors import CompSRTError


@pytest.fixture
def read(tmp_path):
    def read(text):
        (tmp_path / 'run.yml').write_text(text)
        return read_option_file(str(tmp_path / 'run.yml'))[0]

    return read


@pytest.mark.parametrize(
    ('text', 'value'),
    [('1e-4', 1e-4), ('5e5', 5e5), ('-2E+3', -2e3), ('1.5e5', 1.5e5), ('.5e1', 5.0), ('0.1', 0.1), ('1_000.0', 1000.0)],
)
def test_floats_are_numbers(read, text, value):
    assert read(f'lr: {text}\nlist: [{text}]') == {'lr': value, 'list': [value]}
    assert isinstance(read(f'lr: {text}')['lr'], float)


@pytest.mark.parametrize('key', ['name', 'type', 'suffix', 'dataroot_gt', 'pretrain_network_g', 'param_key_g'])
def test_text_stays_text_under_text_keys(read, key):
    assert read(f'{key}: 1e4')[key] == '1e4'


def test_quoted_numbers_and_words_stay_text(read):
    assert read('a: "1e4"\nb: e4\nc: 1e4x\nd: 12') == {'a': '1e4', 'b': 'e4', 'c': '1e4x', 'd': 12}


def test_doubled_key_is_refused_with_its_line(read):
    with pytest.raises(CompSRTError, match=r'`lr` occurs twice \(line 4\)'):
        read('train:\n  lr: 1\n  x: 2\n  lr: 3\n')


def test_merge_keys_may_be_overridden(read):
    assert read('base: &b {a: 1, c: 2}\nx:\n  <<: *b\n  a: 3\n')['x'] == {'a': 3, 'c': 2}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a: [1, 2\nb: 3', r'not valid YAML: .*line 2'),
        ('a:\n\tb: 1', r'not valid YAML: .*line 2'),
        ('- 1\n- 2', 'must hold `key: value` pairs'),
        ('', 'must hold `key: value` pairs'),
        ('a: !!python/object/apply:os.getcwd []', 'not valid YAML'),
        ('? [1, 2]\n: 3', 'a key must be a plain word'),
    ],
)
def test_faults_of_the_file_are_told(read, text, message):
    with pytest.raises(CompSRTError, match=message):
        read(text)


def test_missing_folder_and_binary_files_are_told(tmp_path):
    with pytest.raises(CompSRTError, match=r'absent\.yml` does not exist'):
        read_option_file(str(tmp_path / 'absent.yml'))
    with pytest.raises(CompSRTError, match='cannot be read'):
        read_option_file(str(tmp_path))
    (tmp_path / 'binary.yml').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(CompSRTError, match='not UTF-8'):
        read_option_file(str(tmp_path / 'binary.yml'))


def test_copy_survives_the_file_being_moved(tmp_path):
    source = tmp_path / 'run.yml'
    source.write_text('name: x # ä\n', encoding='utf-8')
    _, path = read_option_file(str(source))
    source.unlink()
    copy_option_file(None, path, str(tmp_path))
    copied = source.read_text(encoding='utf-8')
    assert copied.startswith('# GENERATE TIME') and copied.endswith('name: x # ä\n')


def test_copy_of_foreign_paths_is_left_to_basicsr():
    calls = []
    copy_option_file(lambda *args: calls.append(args), 'plain.yml', 'folder')
    assert calls == [('plain.yml', 'folder')]
    assert isinstance(OptionPath('a', b''), str)


@pytest.mark.parametrize('text', ['2:4', "'2:4'", '"2:4"'])
def test_a_pattern_of_pruning_is_text(read, text):
    """YAML 1.1 reads 2:4 as 124, a number to base 60."""
    opt = read(f'quant:\n  prune_pattern: {text}\n  other: 2:4\n')
    assert opt['quant'] == {'prune_pattern': '2:4', 'other': 124}
