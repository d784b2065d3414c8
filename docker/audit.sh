# audit.sh PIP_AUDIT PYTHON [OPTIONS]: known vulnerabilities of what is installed.
# OPTIONS are pip-audit's, such as --vulnerability-service osv --osv-url URL for a mirror of one's own.
# Exit 1: found some.  Exit 0: none, or the service could not be asked, which is said and is no clean bill.
# Counted, not believed: against an index without vulnerability data pip-audit skips every package and says "none found".
set -u
audit=$1 python=$2
shift 2
paths=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
found=$(mktemp)
"$audit" --path "$paths" --format json --progress-spinner off --timeout 10 "$@" > "$found"
"$python" - "$found" <<'PYTHON'
import json, pathlib, sys

try:
    packages = json.loads(pathlib.Path(sys.argv[1]).read_text())["dependencies"]
except (ValueError, KeyError, TypeError):
    packages = []
asked = [p for p in packages if "skip_reason" not in p]
vulnerable = [(p, v) for p in asked for v in p["vulns"]]
for package, fault in vulnerable:
    fixed = ", ".join(fault["fix_versions"]) or "no version yet"
    print(f"{package['name']} {package['version']}: {fault['id']}, mended in {fixed}")
if not asked:
    print("audit: NOT DONE: no package could be looked up; run it where the vulnerability service can be reached")
else:
    skipped = len(packages) - len(asked)
    print(f"audit: {len(asked)} packages looked up, {len(vulnerable)} vulnerabilities, {skipped} packages not looked up")
sys.exit(bool(vulnerable))
PYTHON
code=$?
rm -f "$found"
exit "$code"
