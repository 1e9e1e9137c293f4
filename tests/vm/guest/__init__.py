"""What runs inside the guest: the standard library only, no imports of oomd."""
