"""The killer's image: ``python -I -S …/oomd/killer.py FD``. Without site-packages nothing but the standard library and
we can be loaded.
"""

import os
import sys

if __name__ == "__main__":
    sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    from oomd.image import main

    main()
