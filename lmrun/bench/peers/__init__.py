"""Other quantizers, driven from a Python of their own (`drive.py`). Nothing here imports lmrun."""
