#!/usr/bin/env bash
# statsmodels 0.15.0 and scikit-learn 1.9.1: a coefficient without a finite optimum is returned without a warning.
#
# Run: bash findings/separation_without_warning.sh     (Python 3.11 or newer, a package index; a minute)
#
# Input: 60 patients, a number and a 0/1 column; all 8 patients with a 1 are ill, as in a small clinical table (quasi-complete
# separation: Albert & Anderson 1984). The likelihood rises for ever with that column's coefficient.
#
# Expected: a warning, or converged = False, as statsmodels' Logit gives with its default optimiser; and statsmodels' GLM has
# PerfectSeparationWarning.
# Observed: GLM says converged = True with a coefficient of 23 and a standard error of 17,000, and Logit with method="bfgs"
# converged = True with 17 and 1,100; neither warns. PerfectSeparationWarning is only for complete separation, in which every
# patient is predicted. scikit-learn without a penalty (C=inf) returns 10, 9, 8 by lbfgs, newton-cholesky, newton-cg: where each happens
# to stop, far below max_iter and without a warning.
#
# Relevance: a convergence flag does not show separation. fedhealth/server/exact_fit.py looks at the last two Newton steps instead: near
# a finite optimum they shrink faster and faster, here they keep their length although hardly any loss is left to gain.
#
# Exit status: 0 if observed as described, 1 if not, 2 if the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet statsmodels==0.15.0 scikit-learn==1.9.1
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install the packages"; exit 2; }

cat >"$folder/separation.py" <<'PYTHON'
import sys
import warnings

import numpy as np
import sklearn
import statsmodels
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

generator = np.random.default_rng(0)
number = generator.normal(size=60)
ill = (generator.random(60) < 1 / (1 + np.exp(-number))).astype(float)
code = np.zeros(60)
code[:8], ill[:8] = 1, 1
columns = sm.add_constant(np.column_stack([number, code]))


def quiet(fit):
    """The result, and whether it came with a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return fit(), bool(caught)


glm, glm_warned = quiet(lambda: sm.GLM(ill, columns, family=sm.families.Binomial()).fit())
logit, logit_warned = quiet(lambda: sm.Logit(ill, columns).fit(method="bfgs", disp=0))
print(f"statsmodels {statsmodels.__version__}, scikit-learn {sklearn.__version__}")
print("expected: converged False, or a warning, for every fit")
silent = glm.converged and logit.mle_retvals["converged"] and not glm_warned and not logit_warned
print(f"observed: GLM converged {glm.converged}, {glm.params[2]:.1f} ({glm.bse[2]:.0f}), warning {glm_warned}")
print(f"observed: Logit, bfgs converged {logit.mle_retvals['converged']}, {logit.params[2]:.1f}, warning {logit_warned}")
found = []
for solver in ("lbfgs", "newton-cholesky", "newton-cg"):
    model, warned = quiet(lambda: LogisticRegression(C=np.inf, solver=solver).fit(columns[:, 1:], ill))
    found.append(float(model.coef_[0, 1]))
    silent = silent and not warned and model.n_iter_[0] < model.max_iter
    print(f"observed: {solver} {found[-1]:.1f} after {model.n_iter_[0]} of {model.max_iter} iterations, warning {warned}")
sys.exit(0 if silent and max(found) - min(found) > 1 else 1)
PYTHON

code=0
"$folder/venv/bin/python" "$folder/separation.py" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
