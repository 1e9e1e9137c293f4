"""Says what is wrong with this Python: too old for oomd, or (--for-service) where the service cannot see it."""

import os
import sys

HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108 - by ProtectHome and PrivateTmp of the unit

if sys.version_info < (3, 11):  # noqa: UP036 - that is the question
    sys.exit(
        f"oomd needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Say which to take, as in: make PYTHON=/usr/bin/python3.11 ..."
    )
real = os.path.realpath(sys.executable)
if "--for-service" in sys.argv and real.startswith(HIDDEN):
    sys.exit(
        f"{sys.executable} lies at {real}, which the service does not see. "
        "Say which to take, as in: make PYTHON=/usr/bin/python3 install"
    )
