#!/usr/bin/env bash
# flwr 1.42.0: the bias correction of FedAdam counts one round too many.
#
# Run: bash findings/fedadam_first_step.sh     (Python 3.11 or newer, a package index; about a minute)
#
# Input: FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-9), one weight at 0, hospitals that reply 1: the mean update is 1.
#
# Expected: a first step of 0.1. Without bias correction (Reddi et al. 2021, algorithm 2, with v_0 = 0) it is
# 0.1 * 0.1 / sqrt(0.01) = 0.1; with the correction of Adam (Kingma & Ba 2015, the line before section 2.1, t = 1), which
# the code cites, it is 0.1 as well: the first step of Adam is eta, whatever the betas are.
# Observed: 0.0742. The exponents are server_round + 1, so the first round is corrected as if it were the second:
# 0.1 * sqrt(1 - 0.99^2) / (1 - 0.9^2) * 0.1 / 0.1 = 0.0742.
#
# Relevance: `--strategy fedadam` is Flower's FedAdam. Its first steps are smaller than --server-learning-rate implies, so a rate
# that was tuned with another implementation of FedAdam is not optimal here, and a comparison of strategies with few rounds is
# biased against it. FedYogi and FedAdagrad have no bias correction.
#
# Exit status: 0 if observed as described, 1 if not, 2 if flwr could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet flwr==1.42.0 numpy==2.4.6
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install flwr 1.42.0"; exit 2; }

cat >"$folder/first_step.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam
from flwr.supercore.task_identity import TaskIdentity

ETA = 0.1


class OneWeightGrid(Grid):
    """Two hospitals that reply with the weight 1, whatever they receive."""

    def get_node_ids(self):
        return [1, 2]

    def send_and_receive(self, messages, *, timeout=None):
        return [self.train(message) for message in messages]

    def train(self, message):
        arrays = ArrayRecord({"weight": Array(np.ones(1, np.float64))})
        return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 10})}), reply_to=message)

    def _unused(self, *args, **kwargs):
        raise NotImplementedError

    run = property(_unused)
    set_run = create_message = push_messages = pull_messages = _unused


TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 9  # a SuperLink sets these for a ServerApp
strategy = FedAdam(eta=ETA, beta_1=0.9, beta_2=0.99, tau=1e-9, fraction_evaluate=0.0)
start = ArrayRecord({"weight": Array(np.zeros(1, np.float64))})
result = strategy.start(OneWeightGrid(), start, num_rounds=1)
step = float(result.arrays["weight"].numpy()[0])
print(f"flwr {version('flwr')}, FedAdam(eta={ETA}, beta_1=0.9, beta_2=0.99, tau=1e-9), mean update 1, one round")
print(f"expected: a first step of {ETA}")
print(f"observed: a first step of {step:.4f}")
sys.exit(0 if abs(step - 0.0742) < 5e-5 else 1)
PYTHON

code=0
FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 "$folder/venv/bin/python" "$folder/first_step.py" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
