#!/bin/sh
# install.sh VENV: a virtual environment with everything pinned.  Used by the Makefile and by the images.
# PyRadiomics 3.0.1 comes as source and needs numpy and a C compiler while it builds: hence two steps.
set -eu
venv=$1
python=${PYTHON:-python3}

say() { printf '%s\n' "fedmidline: $*" >&2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  say "Python 3.11 or newer is missing (found: $("$python" --version 2>&1 || echo none)). Install it, or call: make PYTHON=/path/to/python3.11 ..."
  exit 2
}
command -v "${CC:-cc}" >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || {
  say "a C compiler is missing (PyRadiomics is built from source). Install one, e.g. Debian's package build-essential."
  exit 2
}
"$python" -c 'import venv, ensurepip' 2>/dev/null || {
  say "Python's venv module is missing. Install it, e.g. Debian's package python3-venv."
  exit 2
}
here=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
say "installing into $venv (about two minutes, 2.3 GB)"
numpy=$(grep -E '^numpy==' "$here/requirements.txt")
torch=$(grep -E '^torch==' "$here/requirements.txt")
set -- setuptools==80.9.0 wheel versioneer==0.29 "$numpy"
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install "$@"
# A machine without an NVIDIA GPU takes torch's CPU build where its index offers one (TORCH_INDEX names that
# index); first torch alone, so that nothing else pulls another build in.
if [ -n "${TORCH_INDEX:-}" ]; then
  "$venv/bin/python" -m pip --disable-pip-version-check --quiet install "$torch" --index-url "$TORCH_INDEX"
else
  "$venv/bin/python" -m pip --disable-pip-version-check --quiet install "$torch"
fi
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install --no-build-isolation pyradiomics==3.0.1
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install -r "$here/requirements.txt"
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install --no-build-isolation --no-deps --editable "$here"
# Last, since it is what installs: the one that comes with Python 3.11 has a known vulnerability (PYSEC-2023-228).
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install pip==26.3
"$venv/bin/python" -m pip --disable-pip-version-check check
