"""A hint to the compiler of loops about the length of vectors."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic


@intrinsic
def whole_vectors(typing):
    """Allow vectors of 512 bits in the function that calls this, where the processor has them.

    By default LLVM takes 256 bits on Intel's processors, because some older ones lower their clock for longer vectors.
    Long loops that stay in the first cache gain 10 to 30 % from whole ones; short rows lose.
    """

    def build(context, builder, signature, arguments):
        # llvmlite refuses attributes that it does not list; this one is LLVM's own
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), build
