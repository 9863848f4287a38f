"""Orchestration: each flow strings steps of the library together and computes nothing itself."""
