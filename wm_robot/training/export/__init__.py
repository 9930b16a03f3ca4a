"""ONNX export of a base, and comparison with torch. No robot needs this part."""
