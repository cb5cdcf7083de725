"""Where patients come from: the UCI files, one of their Kaggle copies, or synthetic patients."""
