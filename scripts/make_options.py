"""Write every option file under options/ from the templates in compsrt_basicsr/study/option_files.

So none drifts apart.

    python scripts/make_options.py [OUTPUT_DIR]

Two recipes: `strict` (options/) keeps every code within its bits, `paper` (options/paper/) runs the experiment as
published. Each has a training and a test file for each scale (2, 3, 4) and bit width (4, 3, 2), and at 4 and 3 bits the
same with 40% of the weights pruned (_p40). Beside them lie the recipes that pretrain a teacher. A test compares the
committed files with the templates.
"""

import sys
from pathlib import Path

from compsrt_basicsr.study.option_files import compsrt_files, pretrain_files


def write_options(output_dir: Path) -> list[Path]:
    """Write all files below `output_dir` and return their paths."""
    written = []
    for path, text in {**compsrt_files.all_files(), **pretrain_files.all_files()}.items():
        target = output_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding='utf-8')
        written.append(target)
    return written


def main() -> None:
    """Write to the folder given on the command line, or to options/ of this checkout."""
    if len(sys.argv) > 2 or sys.argv[1:2] in (['-h'], ['--help']):
        print(__doc__)
        return
    output_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / 'options'
    print(f'{len(write_options(output_dir))} option files in {output_dir}')


if __name__ == '__main__':
    main()
