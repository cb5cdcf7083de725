"""report.html and MODEL_CARD.md, made from the files of a run folder and from nothing else."""
