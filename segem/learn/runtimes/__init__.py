"""What evaluates a net: torch itself, or OpenVINO on a processor; arrays in, arrays out."""
