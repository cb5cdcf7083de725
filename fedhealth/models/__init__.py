"""Models: training, prediction, recalibration, saved files and exports."""
