#!/usr/bin/env bash
# The long fault-injection suite: kills, signals, full disks, altered files, hostile configurations and more, in real
# trainings; 41 minutes on two cores of an AMD EPYC (Zen 3). Prints a table: each promise, how often it was tested, how
# often it was kept. Arguments go to pytest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$FASHION_VGG_ROOT"
fashion-vgg fetch
FAULTS_TABLE=$(mktemp)
export FAULTS=long FAULTS_TABLE
status=0
pytest -n logical --maxprocesses 8 --dist worksteal tests/faults tests/data "$@" || status=$?
python - "$FAULTS_TABLE" <<'PYTHON'
import json, sys
from collections import Counter

faults, survived = Counter(), Counter()
for line in open(sys.argv[1]):
    promise, number, kept = json.loads(line)
    faults[promise] += number
    survived[promise] += kept
print("| promise | faults | survived |\n| --- | --- | --- |")
for promise in sorted(faults):
    print(f"| {promise} | {faults[promise]:,} | {survived[promise]:,} |")
PYTHON
rm -f "$FAULTS_TABLE"
exit $status
