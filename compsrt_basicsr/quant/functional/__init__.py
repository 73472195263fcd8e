"""Pure tensor functions: orthogonal transforms, affine quantization. Nothing here knows of modules or networks."""
