"""The commands of `python -m fedhealth`, a file each: flags in, story, lines out. The work is done in other rooms."""

COMMANDS: dict[str, str] = {
    "certificates": "make the certificates of a federation (TLS)",
    "doctor": "ask from a hospital's computer whether it is ready to take part",
    "simulate": "a whole federation on this machine, of some or very many hospitals",
    "receipts": "check a hospital's record of what has left it, and sum it up",
    "predict": "risk of heart disease for new patients, from a run's model",
    "export": "a run's model for other programs (Keras, ONNX, TensorFlow Lite)",
    "report": "report.html and MODEL_CARD.md of a run; several runs compared",
    "completion": "tab completion for bash, of the scripts and of these commands",
}
"""Command -> what it does, in the order of the help page; the module of that name here holds its `main`."""
