"""The compiled engine: kernels, libmujoco, physics, stepping, threads, and the cache of compiled code."""
