#!/bin/sh
# wheelhouse.sh [FOLDER]: everything that the images install, as wheels, so that they are built without a network.
# pip runs here, with this machine's own index, mirror and certificates; none of them reaches an image.
# TORCH_INDEX names an index of torch's CPU build, as in install.sh.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
into=${1:-$here/docker/wheelhouse}
python=${PYTHON:-python3}

say() { printf '%s\n' "fedmidline: $*" >&2; }
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || {
  say "wheels are made for the images' Python 3.11 (found: $("$python" --version 2>&1 || echo none)). Call: PYTHON=/path/to/python3.11 $0"
  exit 2
}
if [ -f "$into/requirements.txt" ] && cmp -s "$into/requirements.txt" "$here/requirements.txt"; then
  say "$into is complete"
  exit 0
fi
say "filling $into (about 400 MB)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -f "$into"/*.whl "$into/requirements.txt"
mkdir -p "$into"
"$python" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --disable-pip-version-check --quiet"
# What a hospital or a server runs: simulation and tests stay outside.
sed '/^# Simulation/,$d' "$here/requirements.txt" > "$work/runtime.txt"
torch=$(grep -E '^torch==' "$work/runtime.txt")
if [ -n "${TORCH_INDEX:-}" ]; then
  $pip wheel --wheel-dir "$into" --no-deps "$torch" --index-url "$TORCH_INDEX"
else
  $pip wheel --wheel-dir "$into" --no-deps "$torch"
fi
# PyRadiomics 3.0.1 comes as source and needs numpy and a C compiler while it builds.
$pip install setuptools==80.9.0 wheel versioneer==0.29 "$(grep -E '^numpy==' "$work/runtime.txt")"
$pip wheel --wheel-dir "$into" --no-build-isolation --no-deps pyradiomics==3.0.1
$pip wheel --wheel-dir "$into" --find-links "$into" -r "$work/runtime.txt" pyradiomics==3.0.1
cp "$here/requirements.txt" "$into/requirements.txt"
say "$(find "$into" -name '*.whl' | wc -l) wheels, $(du -sh "$into" | cut -f1)"
