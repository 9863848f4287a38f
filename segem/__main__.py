"""``python -m segem`` is the command ``segem``."""

from segem.cli import main

# A worker process imports this module under another name, and must not start a command of its own.
if __name__ == "__main__":
    main()
