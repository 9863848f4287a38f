"""The edges of segem: paths in, lazy arrays out; every write is whole or absent."""
