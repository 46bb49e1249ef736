"""What looks at models and machines: comparison, profiles, measured ceilings, benchmarks."""
