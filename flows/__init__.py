"""Orchestration with Prefect: each flow calls steps of the library in order, and computes nothing itself."""
