#!/usr/bin/env bash
# flwr 1.42.0: a key of --node-config or --run-config with spaces around = is dropped without a message.
#
# Run: bash findings/node_config_spaces.sh     (Python 3.11 or newer, a package index; about a minute)
#
# Input: 'data="/absolute/path/client_1.csv" max-epsilon = 3.0', parsed as flower-supernode parses its --node-config; the same
# two keys in a .toml file, which both flags take as well.
#
# Expected: both keys, or an error: `key = value` is TOML, and the .toml file with these lines gives both keys.
# Seen: the key `data` alone. `parse_config_args` collects pairs with the regular expression (\S+?)=(...|\S+), which asks for
# a letter before and after =, and ignores all text between the pairs. No warning, no error.
#
# Why it matters here: max-epsilon is a hospital's own limit to what all runs together may disclose of a patient, and with it
# the hospital takes part under differential privacy only. Without the key it trains without any. `flwr run --run-config`
# uses the same parser: 'dp-epsilon = 3' starts a run without differential privacy. This project cannot see what was
# dropped: the first line of a hospital's log says what came, `require-dp=true` refuses every run without max-epsilon, and
# docs/deployment.md recommends the file.
#
# Exit status: 0 if seen as described, 1 if not, 2 if it could not be tried.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet flwr==1.42.0
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install flwr 1.42.0"; exit 2; }

cat >"$folder/node.toml" <<'TOML'
data = "/absolute/path/client_1.csv"
max-epsilon = 3.0
TOML
cat >"$folder/spaces.py" <<'PYTHON'
import sys
from importlib.metadata import version

from flwr.common.config import parse_config_args

TEXT = 'data="/absolute/path/client_1.csv" max-epsilon = 3.0'
BOTH = {"data": "/absolute/path/client_1.csv", "max-epsilon": 3.0}

text, file = parse_config_args([TEXT]), parse_config_args([sys.argv[1]])
print(f"flwr {version('flwr')}, --node-config '{TEXT}'")
print(f"expected: {BOTH}, or an error")
print(f"seen:     {text}")
print(f"the same lines in a .toml file: {file}")
sys.exit(0 if text == {"data": BOTH["data"]} and file == BOTH else 1)
PYTHON

code=0
FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 "$folder/venv/bin/python" "$folder/spaces.py" "$folder/node.toml" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
