"""What segem writes as JSON and reads back: one module for each kind of file."""
