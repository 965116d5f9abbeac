"""lmrun's own model: package data and the script that trained it.

Serving reads the files of this folder; it imports nothing from here.
"""
