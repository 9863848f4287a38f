"""The models at hand: the zoo, import, export and their descriptions."""
