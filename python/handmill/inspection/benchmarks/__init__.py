"""Benchmarks beside other libraries, each in a process of its own; run by ``handmill bench``.

Other libraries are imported by the worker processes alone
(:mod:`handmill.inspection.benchmarks.worker`).
"""
