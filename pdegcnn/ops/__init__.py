"""Performance-critical operators: stateless functions on plain tensors, one folder per operator."""
