"""How flows are started, and the server that keeps track of them."""
