"""The killer's image: ``python -I -S …/oomd/killer.py FD``. Without site-packages nothing but the standard library and
we can be loaded.
"""

import gc
import os
import sys

if __name__ == "__main__":
    place = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [os.path.dirname(place)]
    # What importing makes stays, but for each class of values its first draft: looking for what does not is a fifth of
    # the time. Looking never would be 0.1 MiB more.
    gc.set_threshold(3000, 1000, 1000)
    from oomd.loading import load_leanly

    load_leanly(place)
    from oomd.image import main

    main()
