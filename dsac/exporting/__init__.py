"""The parts of an export: what it says (contract), what it holds (ONNX, C), what it must pass (parity, closed loop)."""
