"""Pure tensor functions: transforms, affine quantization, pruning masks, bit packing. No modules, no networks."""
