"""segem finds neural membranes in electron-microscopy image stacks."""

__version__ = "0.1.0"
