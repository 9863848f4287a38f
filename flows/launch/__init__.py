"""How flows are started and kept alive."""
