"""What people read of a run: console text, report, model card, live page and tracking."""
