"""Types of settings that are numbers of a range: what a field is declared as is what it takes, see `checks`."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MinLen

Whole = Annotated[int, Ge(0)]
"""0, 1, 2, ..."""
OneAtMost = Annotated[int, Ge(0), Le(1)]
"""0 or 1."""
Count = Annotated[int, Ge(1)]
"""1, 2, 3, ..."""
Several = Annotated[int, Ge(2)]
"""2, 3, 4, ..."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""What NumPy takes as a seed."""
Port = Annotated[int, Ge(0), Le(65535)]
"""A TCP port; 0 stands for a free one."""
NotNegative = Annotated[float, Ge(0)]
"""0 or more."""
Positive = Annotated[float, Gt(0)]
"""More than 0."""
Share = Annotated[float, Ge(0), Le(1)]
"""0 to 1."""
PositiveShare = Annotated[float, Gt(0), Le(1)]
"""More than 0, up to 1."""
InnerShare = Annotated[float, Gt(0), Lt(1)]
"""Between 0 and 1."""
Text = Annotated[str, MinLen(1)]
"""Text that is not empty."""
