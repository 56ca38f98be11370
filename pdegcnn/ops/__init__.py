"""The numerics that must be fast: stateless functions on plain tensors, one folder per operator."""
