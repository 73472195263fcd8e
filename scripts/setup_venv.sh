#!/bin/sh
# Creates or completes a virtual environment with torch, BasicSR 1.4.2, and this package with its test, demo and lint extras.
#
#   scripts/setup_venv.sh [VENV]       VENV is .venv unless given
#   PYTHON=/path/to/python3.12 scripts/setup_venv.sh
#
# The order matters. torch comes first, and BasicSR is built without isolation, because its build would otherwise
# fetch a second torch of its own. --use-pep517 gives every pip the same build, with or without `wheel` installed.
# VENV/.installed is written last: a set-up that broke off has no such file, and the next run goes on with it.
set -u

venv=${1:-.venv}
python=${PYTHON:-}
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
# The venv path is the caller's, the package's files are the checkout's.
case $venv in /*) ;; *) venv=$(pwd)/$venv ;; esac
cd "$root" || exit 1

die() {
    echo "setup_venv: $*" >&2
    exit 1
}

supported() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 10))' >/dev/null 2>&1
}

# Sets `python` to the one asked for, or to the first on PATH that really runs and has a supported version.
choose_python() {
    if [ -n "$python" ]; then
        supported "$python" && return
        version=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) ||
            die "PYTHON=$python does not run; set PYTHON to a Python 3.10 or later."
        die "PYTHON=$python is Python $version; set PYTHON to a Python 3.10 or later."
    fi
    for candidate in python3.11 python3.12 python3.13 python3.10 python3 python; do
        if supported "$candidate"; then
            python=$candidate
            return
        fi
    done
    die "no Python 3.10 or later was found on PATH; install one or set PYTHON to it."
}

make_venv() {
    if [ -x "$venv/bin/python" ]; then
        supported "$venv/bin/python" ||
            die "$venv was made by a Python before 3.10 or is broken; remove it and run this again."
        "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
    fi
    choose_python
    echo "setup_venv: making $venv with $python; torch is a large download, the rest a small one"
    "$python" -m venv "$venv" ||
        die "'$python -m venv' failed (on Debian and Ubuntu it needs the package python3-venv)."
}

# install WHAT ARGUMENTS...: one pip run under the tested versions; WHAT names it in messages.
install() {
    what=$1
    shift
    echo "setup_venv: installing $what"
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -c constraints.txt "$@" ||
        die "pip could not install $what; check the network (without it pip may speak of a conflict) and the free" \
            "disk space, then run the same command again, which goes on from here."
}

make_venv
rm -f "$venv/.installed"
install 'torch and torchvision' 'setuptools>=77' torch torchvision
# scripts/basicsr_build has what BasicSR's build needs on Python 3.13 and later.
(
    export PYTHONPATH="$root/scripts/basicsr_build${PYTHONPATH:+:$PYTHONPATH}"
    install 'BasicSR 1.4.2' --use-pep517 --no-build-isolation basicsr==1.4.2
) || exit 1
install 'this package with its extras' --use-pep517 --no-build-isolation -e '.[test,demo,lint]'
touch "$venv/.installed"
echo "setup_venv: $venv is ready"
