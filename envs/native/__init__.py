"""The engine's compiled half: kernels, libmujoco, physics, worlds, threads, and the cache of all that."""
