"""Where patients come from: the UCI files, a CSV in any known layout, or synthetic patients."""
