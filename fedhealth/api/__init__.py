"""The Python face: a federation in a notebook or a program. `fedhealth` hands its names on."""
