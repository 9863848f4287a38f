"""The steps of the main job: path in, path out, one file a step."""
