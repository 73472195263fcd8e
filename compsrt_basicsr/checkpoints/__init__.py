"""The one loader: find a model, read it safely, recognise its format, rebuild the network.

| module          | step                                                                                     |
|-----------------|------------------------------------------------------------------------------------------|
| `find`          | a path, a name of the zoo or `zoo://NAME` to a file                                      |
| `read`          | a file to a state dict                                                                   |
| `formats`       | a state dict to a network: ours, CompSRT's authors', 2DQuant's, full-precision SwinIR     |
| `swinir_shapes` | shapes of weights to the arguments of a SwinIR                                           |
| `load`          | all of these in one call: `load_network`                                                 |
| `unpack`        | a packed network to float weights with the same codes                                    |
| `save`          | a state dict to a checkpoint                                                             |
| `size`          | what a file stores, part by part                                                         |
| `describe`      | a network in the words of a model card                                                   |
"""
