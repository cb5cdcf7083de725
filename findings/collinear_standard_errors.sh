#!/usr/bin/env bash
# statsmodels 0.15.0: Logit on collinear columns says "converged", with standard errors that are NaN or 24 million, and no warning.
#
# Run: bash findings/collinear_standard_errors.sh     (Python 3.11 or newer, a package index; a minute)
#
# Input: 60 patients; a column of ones, a number, a 0/1 column, and a fourth column that is twice the number plus one. And the same
# with a second column of ones instead, as a 0/1 column for each code of a category gives.
#
# Expected: a warning, as GLM gives for the same columns (SingularMatrixWarning: "The design matrix is rank-deficient"), or an error.
# Observed: Logit.fit() (Newton's method, the default) has converged = True and no warning. In the first case the standard errors of
# the collinear columns are NaN; in the second they are finite, 24,504,692, so that a table shows a p-value of 1.
#
# Relevance: standard errors of statsmodels are what fedhealth's are compared with. With missing indicators the columns of the heart disease
# data are collinear; fedhealth/server/strategies/design.py names such columns before the first step.
#
# Exit status: 0 if observed as described, 1 if not, 2 if statsmodels could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet statsmodels==0.15.0
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install statsmodels 0.15.0"; exit 2; }

cat >"$folder/collinear.py" <<'PYTHON'
import sys
import warnings

import numpy as np
import statsmodels
import statsmodels.api as sm

generator = np.random.default_rng(0)
number = generator.normal(size=60)
ill = (generator.random(60) < 1 / (1 + np.exp(-number))).astype(float)
code = np.zeros(60)
code[:8] = 1
columns = sm.add_constant(np.column_stack([number, code]))


def fit(model):
    """Converged, standard errors, names of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = model.fit(disp=0) if isinstance(model, sm.Logit) else model.fit()
        converged = result.converged if isinstance(model, sm.GLM) else result.mle_retvals["converged"]
        return converged, result.bse, [each.category.__name__ for each in caught]


print(f"statsmodels {statsmodels.__version__}")
as_described = True
for what, fourth in (("2 x + 1", 2 * number + 1), ("ones", np.ones(60))):
    design = np.column_stack([columns, fourth])
    _, _, expected = fit(sm.GLM(ill, design, family=sm.families.Binomial()))
    converged, errors, warned = fit(sm.Logit(ill, design))
    print(f"{what}: expected a warning as of GLM: {expected}")
    print(f"{what}: observed converged {converged}, standard errors {errors.round(2).tolist()}, warnings {warned}")
    unusable = not np.isfinite(errors[3]) or errors[3] > 1e5
    as_described = as_described and converged and not warned and unusable and "SingularMatrixWarning" in expected
sys.exit(0 if as_described else 1)
PYTHON

code=0
"$folder/venv/bin/python" "$folder/collinear.py" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
