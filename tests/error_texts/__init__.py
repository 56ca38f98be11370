"""What errors say: changes of the good calls in ``tests/cases.py``, and the text of the error that each must raise.

A row is a change of arguments or inputs by name, the kind of error and a part of its text. A function in the place of
a value changes the good one. A text that users rely on is one row here.
"""

from __future__ import annotations

from .calls import CALLS
from .functions import FUNCTIONS
from .layers import LAYERS, MAKERS
from .values import Call, Row

__all__ = ["CALLS", "ROWS", "Call", "Row"]

ROWS = [(name, row) for table in (FUNCTIONS, LAYERS, MAKERS) for name, rows in table.items() for row in rows]
