#!/usr/bin/env bash
# statsmodels 0.15.0: score_test counts a column that adds nothing as a degree of freedom, and gives a p-value of 0.65 instead of 0.36.
#
# Run: bash findings/score_test_degrees.sh     (Python 3.11 or newer, a package index; a minute)
#
# Input: 120 patients of three hospitals, a number, sex, and a 0/1 column for each hospital; the third hospital has only men. The
# test: does the effect of sex differ between the hospitals? Two columns are added, sex x second and sex x third hospital. The last is
# the third hospital's own column again, so that the two add one direction to the model.
#
# Expected: 1 degree of freedom, or an error or a warning. The likelihood ratio of the two models has 1: GLM's df_model rises by 1.
# Observed: GLM.score_test and GLMResults.score_test return 2 degrees of freedom without a warning, and a p-value of 0.65; the same
# statistic with 1 has 0.36. Reported upstream since 2018 (statsmodels issues 5364 and 7203) and open.
#
# Relevance: a hospital in which all patients have one code is usual in clinical tables; every such one makes the test weaker.
# fedhealth/metrics/heterogeneity.py takes the degrees of freedom from the rank of the information matrix, and its test compares only
# the statistic with statsmodels'.
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

cat >"$folder/degrees.py" <<'PYTHON'
import sys
import warnings

import numpy as np
import statsmodels
import statsmodels.api as sm
from scipy.stats import chi2

generator = np.random.default_rng(0)
number = generator.normal(size=120)
hospital = np.arange(120) % 3
male = (generator.random(120) < 0.5).astype(float)
male[hospital == 2] = 1
ill = (generator.random(120) < 1 / (1 + np.exp(-number))).astype(float)
hospitals = (hospital[:, np.newaxis] == np.arange(3)).astype(float)
columns = np.column_stack([number, male, hospitals])
extra = male[:, np.newaxis] * hospitals[:, 1:]


def fit(design):
    return sm.GLM(ill, design, family=sm.families.Binomial()).fit()


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    without = fit(columns)
    by_model = without.model.score_test(without.params, exog_extra=extra)
    by_results = without.score_test(exog_extra=extra)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # GLM itself names the deficient rank
    added = int(fit(np.hstack([columns, extra])).df_model - without.df_model)
statistic, p_value, degrees = np.ravel(by_model[0]).item(), np.ravel(by_model[1]).item(), int(by_model[2])
right = chi2.sf(statistic, added)
print(f"statsmodels {statsmodels.__version__}")
print(f"expected: {added} degree of freedom (df_model of GLM), p {right:.2f}, or a warning")
print(f"observed: {degrees} degrees of freedom, p {p_value:.2f}, warnings {[str(each.message) for each in caught]}")
other = np.ravel(by_results.pvalue).item()
print(f"observed: GLMResults.score_test has p {other:.2f}")
sys.exit(0 if degrees == 2 and added == 1 and min(p_value, other) > right + 0.2 and not caught else 1)
PYTHON

code=0
"$folder/venv/bin/python" "$folder/degrees.py" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
