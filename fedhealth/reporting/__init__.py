"""Output of a run: console text, report, model card, live page and tracking."""
