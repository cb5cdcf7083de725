"""What federation is worth: each hospital alone, all of them federated, all rows in one place; same patients, same seeds.

`cases.py` and `flamby.py` say who is trained on and who is tested; `methods.py` trains, with the very apps that a run over
the network uses; `scoring.py` measures and `differences.py` says how sure a difference is; `study.py` is the whole,
`choice.py` how the settings were chosen, `page.py` and `figures.py` what is shown. Rows are in one place here, so this is for
studies on public data and for nothing else.
"""

from fedhealth.compare.study import Study, keep_study, load_patients, run_study

__all__ = ["Study", "keep_study", "load_patients", "run_study"]
