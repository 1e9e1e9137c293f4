"""Android's lmkd: its protocol, its properties, its decisions, its words."""
