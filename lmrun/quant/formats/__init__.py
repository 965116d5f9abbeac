"""Quantized checkpoints of other tools: codes in, named tensors out, and back. NumPy."""
