"""All policies that there are: each has its line of import and its entry in the tuple."""

from oomd.policies.cold import Cold
from oomd.policies.culprit import Culprit
from oomd.policies.freeable import Freeable
from oomd.policies.growth_or_size import GrowthOrSize
from oomd.policies.lmkd_order import LmkdOrder
from oomd.policies.metrics import IoCost, OomScore, PgscanRate, PressureOrder, Resident, Swap, Youngest

ALL = (
    Culprit,
    Freeable,
    Resident,
    OomScore,
    LmkdOrder,
    Swap,
    GrowthOrSize,
    PressureOrder,
    IoCost,
    PgscanRate,
    Youngest,
    Cold,
)
"""Every policy, by the key ``name`` in the configuration; the first is the default."""
