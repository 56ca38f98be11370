"""``python -m pdegcnn``: the same as the command ``pdegcnn``."""

import sys

from pdegcnn.command_line import main

if __name__ == "__main__":
    sys.exit(main())
