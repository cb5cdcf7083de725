"""report.html and MODEL_CARD.md, made only from the files of a run folder."""
