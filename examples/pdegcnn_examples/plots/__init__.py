"""Pictures that the examples draw."""
