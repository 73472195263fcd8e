"""Models by name: what is known of them, where their files are, and how files are downloaded."""

import re

SCHEME = 'zoo://'
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,99}')
WEIGHT_SUFFIXES = ('.pth', '.safetensors', '.pt', '.ckpt', '.bin', '.onnx', '.state')  # what ends so is a path
