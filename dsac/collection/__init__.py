"""The policy acts, the environments step: in this process, in others, on a Ray cluster."""
