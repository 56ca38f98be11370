"""Networks that the examples train: of the library beside plain ones, at equal footing."""
