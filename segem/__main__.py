"""``python -m segem`` is the command ``segem``."""

from segem.cli import main

main()
