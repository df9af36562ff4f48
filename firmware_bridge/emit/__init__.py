"""From a plan to C: the form of the code, its templates, the folder they are written to."""
