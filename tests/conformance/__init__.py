"""The choices of other killers, case by case, as traces that are replayed."""
